"""``AutoConfig``, ``AutoFeatureExtractor``, ``AutoTokenizer`` and ``AutoProcessor``."""

import json

import pytest
from numpy_transcriber import RATE, save_processor

from wav2vec2_core import (
    AutoConfig,
    AutoFeatureExtractor,
    AutoProcessor,
    AutoTokenizer,
    Wav2Vec2Config,
    Wav2Vec2CTCTokenizer,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2Processor,
    Wav2Vec2ProcessorWithLM,
)
from wav2vec2_core.attaching import attach
from wav2vec2_core.errors import CheckpointError, ConfigError, InputError

EVERY = (AutoConfig, AutoFeatureExtractor, AutoTokenizer, AutoProcessor)
ARPA = "\\data\\\nngram 1=4\n\n\\1-grams:\n-9\t<unk>\n-1\t<s>\n-1\t</s>\n-0.1\tface\n\n\\end\\\n"


@pytest.fixture
def folder(tmp_path):
    Wav2Vec2Config(hidden_size=48).save_pretrained(save_processor(tmp_path / "model"))
    return tmp_path / "model"


def change(path, **values):
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def test_the_classes_of_ours(folder):
    kinds = (Wav2Vec2Config, Wav2Vec2FeatureExtractor, Wav2Vec2CTCTokenizer, Wav2Vec2Processor)
    assert tuple(type(auto.from_pretrained(folder, trust_remote_code=True)) for auto in EVERY) == kinds
    assert AutoConfig.from_pretrained(folder, layerdrop=0.0).hidden_size == 48
    assert AutoFeatureExtractor.from_pretrained(folder).sampling_rate == RATE
    assert AutoTokenizer.from_pretrained(folder, do_lower_case=True).do_lower_case
    assert AutoConfig.for_model("wav2vec2", hidden_size=96).hidden_size == 96


def test_a_processor_alone_has_no_configuration(folder):
    (folder / "config.json").unlink()
    for auto in EVERY[1:]:
        auto.from_pretrained(folder)


def test_the_processor_class_of_the_files(folder, tmp_path):
    arpa = tmp_path / "lm.arpa"
    arpa.write_text(ARPA)
    attach(arpa, folder, AutoTokenizer.from_pretrained(folder))
    with_lm = AutoProcessor.from_pretrained(folder)
    assert type(with_lm) is Wav2Vec2ProcessorWithLM
    assert with_lm.language_model is not None
    with_lm.save_pretrained(tmp_path / "saved")
    assert type(AutoProcessor.from_pretrained(tmp_path / "saved", alpha=0.1)) is Wav2Vec2ProcessorWithLM

    for path in (folder / "language_model").iterdir():
        path.unlink()
    assert type(AutoProcessor.from_pretrained(folder)) is Wav2Vec2Processor
    (folder / "processor_config.json").unlink()
    change(folder / "preprocessor_config.json", processor_class="Wav2Vec2ProcessorWithLM")
    with pytest.warns(UserWarning, match="has no folder language_model"):
        assert type(AutoProcessor.from_pretrained(folder)) is Wav2Vec2ProcessorWithLM
    change(folder / "preprocessor_config.json", processor_class="WhisperProcessor")
    with pytest.raises(CheckpointError, match="has processor_class 'WhisperProcessor': use one of Wav2Vec2Processor, "):
        AutoProcessor.from_pretrained(folder)


@pytest.mark.parametrize("auto", EVERY)
def test_another_family(auto, folder):
    change(folder / "config.json", model_type="hubert")
    with pytest.raises(ConfigError, match=r"model_type .*'hubert', this library reads 'wav2vec2' models: choose a"):
        auto.from_pretrained(folder)
    with pytest.raises(InputError, match=rf"{auto.__name__} cannot be made: call {auto.__name__}.from_pretrained"):
        auto()
    with pytest.raises(CheckpointError, match="does not exist"):
        auto.from_pretrained(folder / "none")
    with pytest.raises(ConfigError, match="'wavlm'"):
        AutoConfig.for_model("wavlm")


def test_a_model_without_vocabulary_has_no_processor(folder):
    (folder / "vocab.json").unlink()
    with pytest.raises(CheckpointError, match=r"has no vocab\.json, so it has no processor: use AutoFeatureExtractor"):
        AutoProcessor.from_pretrained(folder)
    AutoFeatureExtractor.from_pretrained(folder)
