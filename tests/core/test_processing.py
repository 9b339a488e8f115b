"""The processor: routing of options, labels beside inputs, files of transformers 4 and 5."""

import json

import numpy as np
import pytest

from wav2vec2_core.errors import CheckpointError, InputError
from wav2vec2_core.feature_extraction import Wav2Vec2FeatureExtractor
from wav2vec2_core.processing import Wav2Vec2Processor
from wav2vec2_core.tokenization import Wav2Vec2CTCTokenizer

LETTERS = {"<pad>": 0, "<s>": 1, "</s>": 2, "<unk>": 3, "|": 4, "a": 5, "b": 6}
AUDIO = [[0.0, 1.0, 2.0, 3.0], [1.0, 0.5]]


@pytest.fixture
def processor(tmp_path):
    (tmp_path / "vocab.json").write_text(json.dumps(LETTERS))
    tokenizer = Wav2Vec2CTCTokenizer(tmp_path / "vocab.json")
    return Wav2Vec2Processor(feature_extractor=Wav2Vec2FeatureExtractor(), tokenizer=tokenizer)


def test_audio_text_or_both(processor):
    inputs = processor(AUDIO, sampling_rate=16000, padding=True, return_tensors="np")
    assert set(inputs) == {"input_values"}
    assert inputs.input_values.shape == (2, 4)
    assert dict(processor(text="ab")) == {"input_ids": [5, 6], "attention_mask": [1, 1]}
    both = processor(AUDIO, ["ab", "a"], sampling_rate=16000, padding=True, return_tensors="np")
    assert set(both) == {"input_values", "labels"}
    assert both.labels.tolist() == [[5, 6], [5, 0]]
    assert processor.model_input_names == ["input_values", "attention_mask", "labels"]


def test_options_of_one_side(processor):
    both = processor(
        AUDIO,
        ["ab", "a"],
        audio_kwargs={"sampling_rate": 16000, "padding": True},
        text_kwargs={"padding": "max_length", "max_length": 3},
        common_kwargs={"return_tensors": "np"},
    )
    assert both.input_values.shape == (2, 4)
    assert both.labels.shape == (2, 3)


def test_pad(processor):
    features = [{"input_values": row} for row in AUDIO]
    labels = [{"input_ids": [5, 6]}, {"input_ids": [5]}]
    batch = processor.pad(features, labels=labels, padding=True, return_tensors="np")
    assert batch.input_values.tolist() == [AUDIO[0], [1.0, 0.5, 0.0, 0.0]]
    assert batch.labels.tolist() == [[5, 6], [5, 0]]
    assert processor.pad(labels=labels).input_ids == [[5, 6], [5, 0]]


def test_decode(processor):
    assert processor.decode([5, 5, 0, 5, 4, 6]) == "aa b"
    output = processor.batch_decode(np.array([[5, 4, 6]]), output_word_offsets=True)
    assert [word["word"] for word in output.word_offsets[0]] == ["a", "b"]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda p: p(), "neither audio nor text"),
        (lambda p: p(AUDIO, sampling_rat=16000), "option 'sampling_rat' is unknown"),
        (lambda p: p(AUDIO, padding=True, text_kwargs={"padding": True}), "'padding' is given twice, in text_kwargs"),
        (lambda p: p(AUDIO, common_kwargs={"padding": True}), "takes return_tensors alone"),
        (lambda p: p(AUDIO, sampling_rate=8000), "sampling_rate=8000 but the model hears 16000"),
        (lambda p: p.pad(), "neither input_features nor labels"),
    ],
)
def test_bad_calls(processor, call, message):
    with pytest.raises(InputError, match=message) as error:
        call(processor)
    assert "\n" not in str(error.value)


def test_files_for_both_releases(processor, tmp_path):
    processor.save_pretrained(tmp_path / "saved")
    names = {path.name for path in (tmp_path / "saved").iterdir()}
    assert names == {
        "preprocessor_config.json",
        "processor_config.json",
        "special_tokens_map.json",
        "tokenizer_config.json",
        "vocab.json",
    }
    for name, remove in (("v4", "processor_config.json"), ("v5", "preprocessor_config.json")):
        processor.save_pretrained(tmp_path / name)
        (tmp_path / name / remove).unlink()
        loaded = Wav2Vec2Processor.from_pretrained(tmp_path / name, do_normalize=False, model_max_length=9)
        assert loaded.feature_extractor.do_normalize is False
        assert loaded.tokenizer.model_max_length == 9
        assert loaded.tokenizer.get_vocab() == processor.tokenizer.get_vocab()
        loaded.save_pretrained(tmp_path / "again")


def test_a_folder_without_files(tmp_path):
    with pytest.raises(CheckpointError, match="has no"):
        Wav2Vec2Processor.from_pretrained(tmp_path)
