"""The feature extractor by examples; tests/oracle compares it with transformers on random waveforms."""

import json

import numpy as np
import pytest

from wav2vec2_core.errors import CheckpointError, ConfigError, InputError
from wav2vec2_core.feature_extraction import Wav2Vec2FeatureExtractor

LONG, SHORT = [0.0, 1.0, 2.0, 3.0], [1.0, 0.5]
RATE = {"sampling_rate": 16000}


def test_one_waveform_is_a_batch_of_one():
    (values,) = Wav2Vec2FeatureExtractor()(LONG, **RATE).input_values
    np.testing.assert_allclose(values, [-1.3416407, -0.4472136, 0.4472136, 1.3416407], atol=1e-6)
    assert values.dtype == np.float32


@pytest.mark.parametrize("side", ["right", "left"])
def test_with_a_mask_padding_changes_nothing(side):
    """Statistics are those of the samples, and the padding is set after normalising."""
    extractor = Wav2Vec2FeatureExtractor(return_attention_mask=True, padding_side=side, padding_value=0.25)
    batch = extractor([LONG, SHORT], padding=True, return_tensors="np", **RATE)
    (alone,) = extractor(SHORT, **RATE).input_values
    valid = batch.attention_mask[1].astype(bool)
    assert valid.tolist() == ([True, True, False, False] if side == "right" else [False, False, True, True])
    np.testing.assert_allclose(batch.input_values[1][valid], alone, atol=1e-6)
    assert batch.input_values[1][~valid].tolist() == [0.25, 0.25]
    assert batch.attention_mask.dtype == np.int32


def test_without_a_mask_padding_counts_as_samples():
    batch = Wav2Vec2FeatureExtractor()([LONG, SHORT], padding=True, return_tensors="np", **RATE)
    np.testing.assert_allclose(batch.input_values[1], [1.5075562, 0.30151126, -0.90453374, -0.90453374], atol=1e-6)
    assert "attention_mask" not in batch


@pytest.mark.parametrize(
    "audio",
    [
        np.array([LONG, LONG]),
        np.array([LONG, LONG], dtype=np.float32),
        np.array([LONG, LONG], dtype=np.float16),
        np.array([LONG, LONG], dtype=np.int16),
        [np.array(LONG), LONG],
        [[0, 1, 2, 3], LONG],
        (LONG, LONG),
    ],
)
def test_every_kind_of_batch_becomes_float32(audio):
    batch = Wav2Vec2FeatureExtractor(do_normalize=False)(audio, return_tensors="np", **RATE)
    assert batch.input_values.tolist() == [LONG, LONG]
    assert batch.input_values.dtype == np.float32


def test_integers_are_normalised_in_double_precision():
    audio = np.array([0, 1, 2, 3]) + 2**30  # neighbours that float32 cannot tell apart
    (values,) = Wav2Vec2FeatureExtractor()(audio, **RATE).input_values
    np.testing.assert_allclose(values, [-1.3416407, -0.4472136, 0.4472136, 1.3416407], atol=1e-6)
    assert values.dtype == np.float32


def test_lengths():
    extractor = Wav2Vec2FeatureExtractor(do_normalize=False)
    assert extractor(SHORT, padding="max_length", max_length=3, **RATE).input_values[0].tolist() == [1.0, 0.5, 0.0]
    assert extractor(LONG, truncation=True, max_length=3, **RATE).input_values[0].tolist() == LONG[:3]
    assert extractor(SHORT, padding=True, pad_to_multiple_of=8, **RATE).input_values[0].shape == (8,)
    ragged = extractor([LONG, SHORT], return_tensors="np", **RATE).input_values
    assert [row.tolist() for row in ragged] == [LONG, SHORT]


def test_pad_collates_examples():
    examples = [{"input_values": LONG}, {"input_values": np.array(SHORT)}]
    batch = Wav2Vec2FeatureExtractor(return_attention_mask=True).pad(examples)
    assert batch.input_values.tolist() == [LONG, [1.0, 0.5, 0.0, 0.0]]
    assert batch.attention_mask.tolist() == [[1, 1, 1, 1], [1, 1, 0, 0]]


def test_what_is_added_to_the_variance():
    """1e-7, as fairseq and transformers add; this waveform's variance is 1e-8."""
    waveform = np.array([1e-4, -1e-4] * 8, np.float32)
    values = Wav2Vec2FeatureExtractor()(waveform, sampling_rate=16_000)["input_values"][0]
    np.testing.assert_allclose(values, waveform / np.sqrt(1.1e-7), rtol=1e-4)


def test_silence_stays_finite():
    (values,) = Wav2Vec2FeatureExtractor()(np.zeros(100), **RATE).input_values
    assert values.tolist() == [0.0] * 100


def test_a_missing_sampling_rate_warns_once():
    extractor = Wav2Vec2FeatureExtractor()
    with pytest.warns(UserWarning, match="pass sampling_rate=16000"):
        extractor(LONG)
    extractor(LONG)


@pytest.mark.parametrize(
    ("audio", "options", "message"),
    [
        (LONG, {"sampling_rate": 8000}, "sampling_rate=8000 but the model hears 16000 Hz: .*read_audio"),
        ([], {}, "waveform 0 has no samples"),
        ([LONG, []], {}, "waveform 1 has no samples"),
        (np.zeros((1, 2, 3)), {}, r"shape \(1, 2, 3\).*mono"),
        (np.zeros(()), {}, r"shape \(\)"),
        (np.zeros((48000, 2)), {}, r"shape \(48000, 2\), which looks like \(samples, channels\)"),
        ([np.zeros((2, 100))], {}, r"waveform 0 has shape \(2, 100\), it must be \(samples,\), mono"),
        ([0.0, np.nan], {}, "waveform 0 has the sample nan at 1"),
        ([LONG, [1.0, -np.inf]], {}, "waveform 1 has the sample -inf at 1"),
        (np.array(["a"]), {}, "samples must be real numbers"),
        (np.array([1j]), {}, "samples must be real numbers"),
        ("speech.wav", {}, r"file name 'speech.wav'.*read_audio"),
        ([LONG, [SHORT, LONG]], {}, "mixes lengths"),
        (LONG, {"padding": "max_length"}, "padding='max_length' needs max_length"),
        (LONG, {"truncation": True}, "truncation=True needs max_length"),
        (LONG, {"padding": "both"}, "padding='both' is unknown"),
        (LONG, {"padding": True, "pad_to_multiple_of": 0}, "pad_to_multiple_of=0"),
        (LONG, {"padding": "max_length", "max_length": 1.5}, "max_length=1.5 must be an integer"),
        ([LONG, SHORT], {"return_tensors": "pt"}, "different lengths.*padding=True"),
    ],
)
def test_bad_audio_and_options(audio, options, message):
    with pytest.raises(InputError, match=message) as error:
        Wav2Vec2FeatureExtractor()(audio, **{**RATE, **options})
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("features", "message"),
    [
        ({"labels": [[1]]}, "have no 'input_values'"),
        ({"input_values": LONG}, "pass a batch"),
        ({"input_values": [LONG], "attention_mask": [[1], [1]]}, "'attention_mask' has 2 rows"),
        ([], "must be a mapping or a list of mappings"),
    ],
)
def test_bad_features_to_pad(features, message):
    with pytest.raises(InputError, match=message):
        Wav2Vec2FeatureExtractor().pad(features)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"feature_size": 80}, "feature_size=80 must be 1"),
        ({"sampling_rate": 0}, "sampling_rate=0 must be a positive integer"),
        ({"sampling_rate": "16k"}, "sampling_rate='16k'"),
        ({"padding_value": None}, "padding_value=None must be a number"),
        ({"do_normalize": "yes"}, "do_normalize='yes' must be true or false"),
        ({"padding_side": "up"}, "padding_side='up' is unknown"),
    ],
)
def test_bad_settings(arguments, message):
    with pytest.raises(ConfigError, match=message):
        Wav2Vec2FeatureExtractor(**arguments)


def test_files(tmp_path):
    extractor = Wav2Vec2FeatureExtractor(return_attention_mask=True, do_normalize=False, custom="kept")
    extractor.save_pretrained(tmp_path / "a")
    assert Wav2Vec2FeatureExtractor.from_pretrained(tmp_path / "a").to_dict() == extractor.to_dict()
    (tmp_path / "b").mkdir()
    nested = {"feature_extractor": extractor.to_dict(), "processor_class": "Wav2Vec2Processor"}
    (tmp_path / "b" / "processor_config.json").write_text(json.dumps(nested))
    loaded = Wav2Vec2FeatureExtractor.from_pretrained(tmp_path / "b", do_normalize=True)
    assert loaded.to_dict() == {**extractor.to_dict(), "do_normalize": True}
    (tmp_path / "c").mkdir()
    with pytest.raises(CheckpointError, match=r"has no preprocessor_config\.json"):
        Wav2Vec2FeatureExtractor.from_pretrained(tmp_path / "c")
