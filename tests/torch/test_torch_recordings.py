"""Real recordings: packed, tiled and streamed results are those of one pass, words and times."""

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
import soundfile

from wav2vec2_core.audio import resample
from wav2vec2_core.long_form.windows import recording_logits
from wav2vec2_core.transcription import Transcriber

SHARED = Path(__file__).parent.parent.parent.parent / "shared" / "data"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not SHARED.is_dir(), reason="the recordings of ../shared/data are not here"),
]
UTTERANCES = 200


def speech():
    """(name, samples) of the single recordings and of the first utterances of the corpus."""
    for path in sorted((SHARED / "speech").glob("*.flac")):
        yield path.name, soundfile.read(path, dtype="float32")
    found = 0
    for shard in sorted((SHARED / "speechocean762").glob("*.tar")):
        with tarfile.open(shard) as archive:
            for member in archive:
                if member.name.endswith((".ogg", ".opus")):
                    yield member.name, soundfile.read(io.BytesIO(archive.extractfile(member).read()), dtype="float32")
                    found += 1
                    if found == UTTERANCES:
                        return


@pytest.fixture(scope="module")
def transcriber():
    return Transcriber()


@pytest.fixture(scope="module")
def recordings():
    made = [(name, resample(samples, rate, 16_000)) for name, (samples, rate) in speech()]
    assert len(made) >= UTTERANCES + 16
    return made


@pytest.fixture(scope="module")
def one_pass(transcriber, recordings):
    """Text and words of each recording by itself, by the model as the paper has it, without the fast path."""
    import torch

    model, results = transcriber.model.model, []
    for _, samples in recordings:
        with torch.inference_mode():
            logits = model(torch.from_numpy(normalised(transcriber, samples))[None]).logits[0].numpy()
        results.append(transcriber.decoder.decode(logits))
    return results


def normalised(transcriber, samples):
    return transcriber.processor.feature_extractor(samples, sampling_rate=16_000, return_tensors="np")["input_values"][
        0
    ]


def differing(recordings, results, expected):
    """Names of recordings whose text or times (by more than a frame) are others."""
    names = []
    for (name, _), (text, words), (wanted, wanted_words) in zip(recordings, results, expected, strict=True):
        same = text == wanted and all(
            abs(one.start - other.start) <= 1 and abs(one.end - other.end) <= 1
            for one, other in zip(words, wanted_words, strict=True)
        )
        if not same:
            names.append(name)
    return names


def test_packed(transcriber, recordings, one_pass):
    logits = transcriber.model.logits([normalised(transcriber, samples) for _, samples in recordings])
    assert differing(recordings, [transcriber.decoder.decode(one) for one in logits], one_pass) == []


def test_tiled_and_streamed_to_the_decoder(transcriber, recordings, one_pass):
    results = []
    for _, samples in recordings:
        extractor = transcriber.processor.feature_extractor
        logits = recording_logits(transcriber.model, extractor, np.array_split(samples, 9))
        stream = transcriber.decoder.stream()
        words = [word for part in np.array_split(logits, 5) for word in stream.feed(part)]
        words += stream.finish()
        results.append((" ".join(word.text for word in words), words))
    assert differing(recordings, results, one_pass) == []
