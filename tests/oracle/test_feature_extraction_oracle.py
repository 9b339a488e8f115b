"""The feature extractor against transformers 4.57.6: random waveforms, settings and options."""

import numpy as np
import pytest
import torch
import transformers
from waveform_cases import TOLERANCE, outcome, pick, waveform

from wav2vec2_core.errors import Wav2Vec2Error
from wav2vec2_core.feature_extraction import Wav2Vec2FeatureExtractor

pytestmark = pytest.mark.oracle
transformers.logging.set_verbosity(transformers.logging.CRITICAL)

CASES = 40  # seeds per test
CALLS = 25  # calls per seed


def settings(random):
    return {
        "return_attention_mask": bool(random.random() < 0.5),
        "do_normalize": bool(random.random() < 0.7),
        "padding_value": pick(random, (0.0, 0.0, -1.0, 0.5)),
        "padding_side": "right",
    }


def speech(random, padding_value):
    """One waveform or a batch, as arrays of several types or lists."""
    kinds = ("float32", "float64", "list", "tensor", "int16")
    # Transformers rounds the padding value down for integers; we do not.
    kind = pick(random, kinds if padding_value == int(padding_value) else kinds[:-1])
    convert = {
        "float32": lambda row: row.astype(np.float32),
        "float64": lambda row: row,
        "list": lambda row: row.tolist(),
        "int16": lambda row: np.clip(row * 100, -32000, 32000).astype(np.int16),
        "tensor": lambda row: row.astype(np.float32),
    }[kind]
    shape = pick(random, ("single", "batch", "matrix"))
    if shape == "single":
        row = convert(waveform(random))
        return torch.tensor(row) if kind == "tensor" else row
    rows = [waveform(random) for _ in range(int(random.integers(1, 5)))]
    if shape == "matrix" and kind != "list":
        length = min(len(row) for row in rows)
        return convert(np.stack([row[:length] for row in rows]))
    return [convert(row) for row in rows]


def options(random):
    choices = {
        "padding": (True, "longest", "max_length", "do_not_pad", False),
        "max_length": (1, 10, 37, 80),
        "truncation": (True, False),
        "pad_to_multiple_of": (1, 8, 16),
        "return_attention_mask": (True, False),
        "return_tensors": ("np", "pt", None),
    }
    found = {name: pick(random, values) for name, values in choices.items() if random.random() < 0.5}
    if random.random() < 0.5:
        found["padding"] = True
    return found


def rows_of(value):
    return [np.asarray(row) for row in value]


def assert_close(theirs, ours, what):
    """Same entries, same kind of tensor, rows of equal length with equal numbers."""
    if isinstance(theirs, Exception):
        assert not isinstance(ours, Exception) or isinstance(ours, Wav2Vec2Error), (what, ours)
        return
    assert not isinstance(ours, Exception), f"{what}: transformers gives {theirs!r}, we raise {ours!r}"
    assert set(ours) == set(theirs), what
    for name in theirs:
        assert isinstance(ours[name], torch.Tensor) == isinstance(theirs[name], torch.Tensor), (name, what)
        for left, right in zip(rows_of(theirs[name]), rows_of(ours[name]), strict=True):
            assert left.shape == right.shape, (name, what)
            scale = max(1.0, float(np.abs(left).max(initial=0)))
            np.testing.assert_allclose(right, left, rtol=0, atol=TOLERANCE * scale, err_msg=str((name, what)))
    assert all(row.dtype == np.float32 for row in rows_of(ours["input_values"])), what
    if "attention_mask" in theirs:
        assert all(row.dtype == np.int32 for row in rows_of(ours["attention_mask"])), what


@pytest.mark.parametrize("seed", range(CASES))
def test_call(seed):
    random = np.random.default_rng(seed)
    arguments = settings(random)
    theirs = transformers.Wav2Vec2FeatureExtractor(**arguments)
    ours = Wav2Vec2FeatureExtractor(**arguments)
    compared = 0
    for _ in range(CALLS):
        audio, call = speech(random, ours.padding_value), {**options(random), "sampling_rate": 16000}
        expected, found = outcome(lambda: theirs(audio, **call)), outcome(lambda: ours(audio, **call))  # noqa: B023
        assert_close(expected, found, (call, arguments))
        compared += not isinstance(expected, Exception)
    assert compared > CALLS // 3


@pytest.mark.parametrize("seed", range(CASES))
def test_pad(seed):
    random = np.random.default_rng(1000 + seed)
    arguments = {**settings(random), "padding_side": pick(random, ("left", "right"))}
    theirs = transformers.Wav2Vec2FeatureExtractor(**arguments)
    ours = Wav2Vec2FeatureExtractor(**arguments)
    for _ in range(CALLS):
        rows = [waveform(random).astype(np.float32) for _ in range(int(random.integers(1, 5)))]
        convert = pick(random, (np.asarray, np.ndarray.tolist, torch.tensor))
        examples = [{"input_values": convert(row)} for row in rows]
        call = options(random)
        if call.get("return_attention_mask", ours.return_attention_mask) and random.random() < 0.3:
            examples = [{**row, "attention_mask": np.ones(len(row["input_values"]), np.int32)} for row in examples]
        if random.random() < 0.5:
            examples = {name: [example[name] for example in examples] for name in examples[0]}
        found = outcome(lambda: ours.pad(examples, **call))  # noqa: B023
        expected = outcome(lambda: theirs.pad(examples, **call))  # noqa: B023  (it changes the examples: last)
        assert_close(expected, found, (call, arguments))


@pytest.mark.parametrize("seed", range(CASES))
def test_normalisation(seed):
    random = np.random.default_rng(2000 + seed)
    rows = [waveform(random) for _ in range(4)]
    longest = max(map(len, rows))
    padded = [np.pad(row, (0, longest - len(row))) for row in rows]
    masks = [[1] * len(row) + [0] * (longest - len(row)) for row in rows]
    for mask in (None, masks):
        left = transformers.Wav2Vec2FeatureExtractor.zero_mean_unit_var_norm(padded, mask, padding_value=0.25)
        right = Wav2Vec2FeatureExtractor.zero_mean_unit_var_norm(padded, mask, padding_value=0.25)
        for theirs, ours in zip(left, right, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("seed", range(10))
def test_files_go_both_ways(seed, tmp_path):
    random = np.random.default_rng(3000 + seed)
    arguments = {**settings(random), "padding_side": pick(random, ("left", "right"))}
    names = [*arguments, "feature_size", "sampling_rate"]
    ours = Wav2Vec2FeatureExtractor(**arguments)
    ours.save_pretrained(tmp_path / "ours")
    theirs = transformers.Wav2Vec2FeatureExtractor.from_pretrained(tmp_path / "ours")
    assert {name: getattr(theirs, name) for name in names} == {name: getattr(ours, name) for name in names}
    theirs.save_pretrained(tmp_path / "theirs")
    again = Wav2Vec2FeatureExtractor.from_pretrained(tmp_path / "theirs")
    assert {name: getattr(again, name) for name in names} == {name: getattr(ours, name) for name in names}
    assert {**theirs.to_dict(), **ours.to_dict()} == theirs.to_dict()
