"""What a finished model says of itself: how it is used, and its model card, ``README.md``."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from wav2vec2_core.files import write_text
from wav2vec2_core.training.run_folder import RunFolder
from wav2vec2_core.training.tasks.task import Task, Tested, score_name

if TYPE_CHECKING:
    from wav2vec2_core.training.finetuning import Data, FineTuning

CARD = "README.md"
#: In a card as it was written; whoever changes the card takes it away.
_OURS = "<!-- wav2vec2 finetune writes this file anew unless this line is gone. -->"
#: Task -> what a model is for; the hub's name of that, where it has one; the hub's names of its scores.
_KINDS = {
    "ctc": ("speech recognition (CTC)", "automatic-speech-recognition", ("wer", "cer")),
    "classify": ("classification of recordings", "audio-classification", ("accuracy", "recall")),
    "frames": ("classification of stretches of recordings", "audio-classification", ("accuracy", "recall")),
    "xvector": ("speaker recognition (x-vectors)", None, ()),
}
_PYTHON = {
    "ctc": """from wav2vec2_core.transcription import Transcriber

transcriber = Transcriber({model})
transcript = transcriber.transcribe("recording.wav")
for word in transcript.timed_words:
    print(word.start, word.end, word.text)""",
    "classify": """from wav2vec2_core.classification import Classifier

classifier = Classifier({model})
for label in classifier.classify("recording.wav", top=3):
    print(label.name, label.probability)""",
    "frames": """from wav2vec2_core.classification import Classifier

classifier = Classifier({model})
for span in classifier.spans("recording.wav"):
    print(span.start, span.end, span.name)""",
    "xvector": """from wav2vec2_core.classification import Classifier, similarity

classifier = Classifier({model})
one, other = (classifier.speaker(name) for name in ("one.wav", "other.wav"))
print(similarity(one, other))""",
}


def command_lines(task: Task, model: str, *, data: str = "DATA", backend: str = "torch") -> list[str]:
    """What people do with a model next, as lines of a shell.

    Args:
        task: that it was trained for.
        model: its folder.
        data: to evaluate on.
        backend: to compute with.
    """
    folder, options = shlex.quote(model), task.options()
    where = f"--model {folder}" + (f" --language {shlex.quote(options['adapter'])}" if "adapter" in options else "")
    where += "" if backend == "torch" else f" --backend {backend}"
    upload = f"hf upload OWNER/NAME {folder} --private"
    if task.name != "ctc":
        return [f"wav2vec2 classify RECORDING {where}", upload]
    case = " --lower-case" if "case" in options else ""
    return [
        f"wav2vec2 transcribe RECORDING {where}",
        f"wav2vec2 evaluate {shlex.quote(data)} {where}{case}",
        upload,
    ]


def write_card(run: FineTuning, folder: RunFolder, tested: Sequence[Tested]) -> None:
    """Write the model card, unless somebody has made it their own.

    Args:
        run: that made the model.
        folder: of the run.
        tested: scores of the model.

    Raises:
        OutputError: the card cannot be written.
    """
    path = folder.model / CARD
    if not path.exists() or _OURS in path.read_text(encoding="utf-8", errors="replace"):
        write_text(path, "\n".join(_lines(run, folder, tested)) + "\n")


def _lines(run: FineTuning, folder: RunFolder, tested: Sequence[Tested]) -> Iterator[str]:
    kind, pipeline, metrics = _KINDS[run.task.name]
    name = folder.path.resolve().name
    yield from _front_matter(run.model_name, pipeline, metrics)
    yield from ("", f"# {_plain(name)}", "")
    yield f"A wav2vec 2.0 model for {kind}, fine-tuned from {_code(_short(run.model_name))}."
    yield from ("", "## Scores", "")
    yield from _scores(run, tested)
    yield from ("", "## Use", "", "`MODEL` is this folder, or its name on the hub.", "", "```sh")
    yield from (line for line in command_lines(run.task, "MODEL") if not line.startswith("hf "))
    language = run.task.options().get("adapter")
    model = '"MODEL"' if language is None else f'"MODEL", language={json.dumps(language)}'
    yield from ("```", "", "```python", _PYTHON[run.task.name].format(model=model), "```")
    yield from ("", "## Data", "", "| | data | utterances | hours | SHA-256 |", "|---|---|---|---|---|")
    tables = [("training", run.train), ("evaluation", run.evaluation)]
    for title, data in [*tables, ("test", run.test)] if run.test is not run.evaluation else tables:
        yield _data(title, data, trained=data is run.train, rate=run.job.feature_extractor.sampling_rate)
    yield from ("", "## Training", "")
    best = folder.best()
    updates, seconds = f"{run.recipe.schedule.steps:,}", f"{run.effective_batch():.1f}"
    yield f"{updates} updates at most, of {seconds} seconds of audio on average, by the back end `{run.backend.name}`."
    if best is not None:
        yield f"The parameters are those after {best.step:,} updates, which were the best on the evaluation data."
    yield "The recipe:"
    yield from ("", "```toml", run.recipe.to_toml().rstrip(), "```", "", "## Licence", "")
    yield "None is stated yet: add `license:` to the head of this file. What is possible depends on the model that"
    yield "training started from, and on the data."
    yield from ("", _OURS)


def _front_matter(base: str, pipeline: str | None, metrics: Sequence[str]) -> Iterator[str]:
    """What the hub reads; only what is known."""
    yield "---"
    yield "library_name: transformers"
    if pipeline is not None:
        yield f"pipeline_tag: {pipeline}"
    if re.fullmatch(r"[\w.-]+/[\w.-]+", base) and not Path(base).exists():
        yield f"base_model: {json.dumps(base)}"
    yield from ("tags:", "- wav2vec2")
    if metrics:
        yield from ("metrics:", *(f"- {name}" for name in metrics))
    yield "# license: choose one, such as apache-2.0"
    yield "---"


def _scores(run: FineTuning, tested: Sequence[Tested]) -> Iterator[str]:
    yield from ("| score | value | 95 % interval | utterances |", "|---|---|---|---|")
    for found in tested:
        how = f", {found.how}" if found.how else ""
        for name, score in found.scores.items():
            interval = "" if score.interval is None else "{:.2%} to {:.2%}".format(*score.interval)
            yield f"| {score_name(name)}{how} | {score.value:.2%} | {interval} | {found.utterances:,} |"
    yield ""
    yield f"On {_code(_short(run.test.manifest))}; the intervals are those of resampled test sets."
    if run.test.digest == run.evaluation.digest:
        yield "The checkpoint was chosen on the same data, so that these scores are a little too good."
    if any(found.failed for found in tested):
        yield f"{max(found.failed for found in tested):,} utterances could not be read and do not count."


def _data(title: str, data: Data, *, trained: bool, rate: int) -> str:
    rows = data.checked.rows if trained else data.checked.scorable
    hours = sum(row.samples for row in rows) / rate / 3600
    return f"| {title} | {_code(_short(data.manifest))} | {len(rows):,} | {hours:.3g} | `{data.digest[:16]}` |"


def _short(name: str) -> str:
    """The last part of a path, which says nothing of the machine it is on; the whole of a hub's name."""
    path = Path(name)
    return path.name if path.is_absolute() or path.exists() else name


def _plain(text: str) -> str:
    return re.sub(r"([\\`*_<>|\[\]#])", r"\\\1", " ".join(text.split()))


def _code(text: str) -> str:
    """Text as code in a table."""
    return f"`{' '.join(text.replace('`', chr(39)).split())}`".replace("|", "\\|")
