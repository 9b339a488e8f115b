"""Tuning the language model weights alpha and beta on a development set."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from wav2vec2_core.data.manifest import Utterance
from wav2vec2_core.data.opening import open_rows
from wav2vec2_core.decoding.beam_decoder import BeamSearchDecoder
from wav2vec2_core.decoding.choice import DecoderOptions
from wav2vec2_core.decoding.greedy import greedy_decode
from wav2vec2_core.errors import InputError
from wav2vec2_core.language_model.folder import FOLDER, Attributes
from wav2vec2_core.metrics import Errors, normalise, word_errors
from wav2vec2_core.processing_with_lm import Wav2Vec2ProcessorWithLM
from wav2vec2_core.transcription import Transcriber

#: Trials of the search and the ranges of both weights: wav2vec 2.0 paper, appendix B, has 128 trials of Bayesian
#: optimisation with the weight of a 4-gram within [0, 5] and the word score within [-5, 5].
TRIALS = 128
ALPHA_RANGE, BETA_RANGE = (0.0, 5.0), (-5.0, 5.0)
#: Share of the trials spread over the ranges; the others narrow down on the best one so far.
SPREAD = 0.4
#: Steps of two irrational rotations: the plane fills evenly, however many trials there are (R2 sequence).
ROTATION = np.array([0.7548776662466927, 0.5698402909980532])


@dataclass(frozen=True)
class Trial:
    """Word errors of one pair of weights. wer: errors per word of the references."""

    alpha: float
    beta: float
    errors: int
    wer: float


@dataclass(frozen=True)
class Tuning:
    """trials: fewest errors first; before: of the weights that were in use; greedy_wer: without a language model."""

    trials: list[Trial]
    before: Trial
    greedy_wer: float


def tune_model(
    model: Path,
    manifest: Path,
    *,
    trials: int = TRIALS,
    threads: int = 0,
    backend: str = "torch",
    device: str = "auto",
    language: str | None = None,
    lower_case: bool = False,
    remove_punctuation: bool = False,
    save: bool = True,
    reading: Mapping[str, Any] | None = None,
    progress: Callable[[str, float], None] = lambda step, part: None,
) -> Tuning:
    """Tune the language model of a model folder on a manifest, and save the best weights in ``attrs.json``.

    Args:
        model: a folder with a language model. manifest: data as ``open_rows`` takes them; at least one text has words.
        threads: recordings decoded at once, 0 for one per core.
        language: an MMS vocabulary and adapter.
        lower_case, remove_punctuation: how texts are compared; see ``metrics.normalise``.
        reading: of recordings, as ``Utterance.recording`` takes it.

    Raises:
        CheckpointError, InputError, AudioError, BackendError: as loading, ``open_rows``, reading audio and
            ``tune``; InputError also if the texts are clearly written in another convention than the model's output.
    """
    chosen: dict[str, Any] = {} if language is None else {"target_lang": language}
    processor = Wav2Vec2ProcessorWithLM.from_pretrained(model, local_files_only=True, **chosen)
    utterances = [utterance for utterance in open_rows(manifest) if utterance.text and utterance.text.strip()]
    if not utterances:
        raise InputError(f"{manifest} has no text for any recording: add what is said in them")
    options: dict[str, Any] = {"backend": backend, "device": device, "language": language, "local_files_only": True}
    transcriber = Transcriber(model, decoding=DecoderOptions("none"), **options)
    logits = []
    for number, utterance in enumerate(utterances, 1):
        logits.append(_logits(transcriber, utterance, reading or {}))
        progress("recordings", number / len(utterances))
    written = partial(normalise, lower_case=lower_case, remove_punctuation=remove_punctuation)
    references = [utterance.text or "" for utterance in utterances]
    heard = [greedy_decode(frames, processor.tokenizer)[0] for frames in logits]
    _check_writing(references, heard, written)
    done: list[Trial] = []

    def report(trial: Trial) -> None:
        done.append(trial)
        progress("trials", len(done) / trials)

    threads = threads or os.cpu_count() or 1
    found = tune(
        processor.decoder, logits, references, trials=trials, threads=threads, written=written, progress=report
    )
    best = found[0]
    if save:
        folder = model / FOLDER
        replace(Attributes.load(folder), alpha=best.alpha, beta=best.beta).save(folder)
    greedy = _compared(references, heard, written)
    return Tuning(found, done[0], greedy.total / greedy.length)


def _logits(transcriber: Transcriber, utterance: Utterance, reading: Mapping[str, Any]) -> np.ndarray:
    """(frames, vocab) of an utterance."""
    return np.concatenate(list(transcriber.logits(utterance.recording(**reading))))


def _compared(references: Sequence[str], heard: Sequence[str], written: Callable[[str], str]) -> Errors:
    pairs = zip(references, heard, strict=True)
    return sum((word_errors(written(said), written(text)) for said, text in pairs), Errors())


def _check_writing(references: Sequence[str], heard: Sequence[str], written: Callable[[str], str]) -> None:
    """Refuse references that match no word only because they are written in another convention."""

    def hits(form: Callable[[str], str]) -> int:
        errors = _compared(references, heard, form)
        return errors.length - errors.substitutions - errors.deletions

    plain = partial(normalise, lower_case=True, remove_punctuation=True)
    if hits(written) == 0 < hits(plain):
        number = max(range(len(heard)), key=lambda i: len(heard[i]))
        raise InputError(
            f"no word is written as the model writes it ({references[number][:40]!r:.100} is heard as "
            f"{heard[number][:40]!r:.100}): compare with lower_case and remove_punctuation (--lower-case, "
            "--remove-punctuation)"
        )


def tune(
    decoder: BeamSearchDecoder,
    logits: Sequence[np.ndarray],
    references: Sequence[str],
    *,
    trials: int = TRIALS,
    threads: int = 1,
    written: Callable[[str], str] = str,
    progress: Callable[[Trial], None] = lambda trial: None,
) -> list[Trial]:
    """Try pairs of language model weights; the logits are decoded with each pair.

    The decoder's own weights come first. Two fifths of the trials then cover ``ALPHA_RANGE`` and ``BETA_RANGE``
    evenly; each later one lies in a box around the best so far, which shrinks from half the ranges to a fiftieth. The
    same input gives the same trials.

    Args:
        logits: (frames, vocab) each. references: what was said.
        threads: number of recordings decoded at once.
        written: normalises both texts before comparison.

    Returns:
        The trials, fewest errors first; of equal ones, the earlier first.

    Raises:
        InputError: no recording, no reference words, or fewer than one trial.
        BackendError: jiwer is not installed.
    """
    if len(logits) != len(references) or not len(logits):
        raise InputError(f"{len(logits)} recordings and {len(references)} references: give one for each, at least one")
    references = [written(reference) for reference in references]
    total = sum(len(reference.split()) for reference in references)
    if total == 0:
        raise InputError("the references have no words: give transcripts of what was said")
    if trials < 1:
        raise InputError(f"trials is {trials}, 1 at least is needed")
    done: list[Trial] = []
    with ThreadPoolExecutor(threads) as pool:
        while len(done) < trials:
            alpha, beta = _next_weights(done, trials, (decoder.options.alpha, decoder.options.beta))

            def errors_of(frames: np.ndarray, said: str, alpha: float = alpha, beta: float = beta) -> int:
                best = decoder.decode_beams(frames, alpha=alpha, beta=beta, prune_history=True)[0]
                return word_errors(said, written(best.text)).total

            errors = sum(pool.map(errors_of, logits, references))
            done.append(Trial(alpha, beta, errors, errors / total))
            progress(done[-1])
    return sorted(done, key=_errors)


def _next_weights(done: Sequence[Trial], trials: int, own: tuple[float, float]) -> tuple[float, float]:
    """alpha and beta of the next trial."""
    if not done:
        return own
    number, spread = len(done), max(1, round(trials * SPREAD))
    low, high = np.transpose([ALPHA_RANGE, BETA_RANGE])
    place = (0.5 + number * ROTATION) % 1
    if number > spread:
        best = min(done, key=_errors)
        size = (high - low) * 0.5 * 0.04 ** ((number - spread) / max(trials - spread, 1))
        centre = np.array([best.alpha, best.beta])
        low, high = np.maximum(low, centre - size / 2), np.minimum(high, centre + size / 2)
        low = np.minimum(low, high)
    alpha, beta = np.round(low + place * (high - low), 4)
    return float(alpha), float(beta)


def _errors(trial: Trial) -> int:
    return trial.errors
