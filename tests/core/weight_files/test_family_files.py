"""Files of the family in their own layouts: torchaudio's pipelines, omnilingual-asr, modules wrapped by PyTorch."""

import json

import numpy as np
import pytest
from model_cases import TINY
from random_models import FAMILIES, random_tensors
from torch_writers import described, write_zip

from wav2vec2_core.config import Wav2Vec2Config
from wav2vec2_core.conversion import convert
from wav2vec2_core.errors import CheckpointError
from wav2vec2_core.parameters import BODY_PREFIX
from wav2vec2_core.processing import Wav2Vec2Processor
from wav2vec2_core.weight_files.bare_file import open_bare_file
from wav2vec2_core.weight_files.dialects import FAIRSEQ2_CTC, TORCHAUDIO
from wav2vec2_core.weight_files.sentencepiece_file import read_pieces

#: Labels of torchaudio's English pipelines after the blank, as its documentation lists them.
ENGLISH = [*"|ETAONIHSRDLUMWCFGYPBVK", "'", *"XJQZ"]


def model_file(folder, dialect, rows, wrapped="{}", **top):
    """A file in the layout of ``dialect``, with its configuration beside it; returns path, tensors, configuration."""
    unused = {"encoder_frontend.feature_extractor.layers.{}.group_norm", "encoder_frontend.layer_norm"}
    config = Wav2Vec2Config(**{**TINY, **FAMILIES["large"], "vocab_size": rows, "mask_time_prob": 0.0})
    tensors = random_tensors(config, "ForCTC")
    names = {name: dialect.stored(name.removeprefix(BODY_PREFIX), unused) for name in tensors}
    values, numbers = described({wrapped.format(names[name]): array for name, array in tensors.items()})
    write_zip(folder / "file.pt", {**top, "model": values} if top else values, numbers)
    config.to_json_file(folder / "given.json")
    return folder / "file.pt", tensors, config


def assert_read(path, tensors, config, program):
    content = open_bare_file(path, config.to_dict())
    assert content.program == program
    assert content.checkpoint.shapes.keys() == tensors.keys()
    assert all(np.array_equal(content.checkpoint.read(name), array) for name, array in tensors.items())
    return content


@pytest.mark.parametrize("wrapped", ["{}", "module.{}", "_orig_mod.{}", "_orig_mod.module.{}"])
@pytest.mark.parametrize(("dialect", "program"), [(TORCHAUDIO, "torchaudio"), (FAIRSEQ2_CTC, "fairseq2")])
def test_modules_that_pytorch_has_wrapped(tmp_path, dialect, program, wrapped):
    assert_read(*model_file(tmp_path, dialect, 11, wrapped), program)


@pytest.mark.parametrize("wrapped", ["{}", "model.{}", "_orig_mod.model.{}"])
def test_state_dicts_of_torchaudio_pipelines(tmp_path, wrapped):
    """Pipelines wrap a model that normalises its audio; their labels are known by their number."""
    path, tensors, config = model_file(tmp_path, TORCHAUDIO, 29, wrapped)
    content = assert_read(path, tensors, config, "torchaudio")
    assert content.vocabulary == {"<pad>": 0, **{letter: row for row, letter in enumerate(ENGLISH, 1)}}
    assert content.guessed == ("do_normalize", "vocabulary")
    convert(path, tmp_path / "made", config=tmp_path / "given.json")
    tokenizer = Wav2Vec2Processor.from_pretrained(tmp_path / "made").tokenizer
    rows = [1 + ENGLISH.index(letter) for letter in "HI|YOU"]
    assert tokenizer.decode([rows[0], rows[0], 0, *rows[1:]]) == "HI YOU"


def test_labels_of_torchaudios_aligner(tmp_path):
    content = assert_read(*model_file(tmp_path, TORCHAUDIO, 28, "model.{}"), "torchaudio")
    assert [*content.vocabulary][:6] == ["<pad>", "a", "i", "e", "n", "o"]
    assert sorted(content.vocabulary.values()) == list(range(28))
    assert assert_read(*model_file(tmp_path, TORCHAUDIO, 30), "torchaudio").vocabulary is None


# ---- omnilingual-asr ------------------------------------------------------------------------------------------------


def field(number, kind, content):
    return bytes([number << 3 | kind]) + content


def sentencepiece(pieces):
    """A model of SentencePiece: pieces of text, score and kind, and fields that nobody asks for."""
    made = b""
    for piece in pieces:
        text = piece.encode()
        kind = 3 if piece.startswith("<") else 1
        inner = field(1, 2, bytes([len(text)]) + text) + field(2, 5, b"\x00\x00\x80\xbf") + field(3, 0, bytes([kind]))
        made += field(1, 2, bytes([len(inner)]) + inner)
    trainer = field(3, 0, b"\x80\x01") + field(9, 1, bytes(8))
    return made + field(2, 2, bytes([len(trainer)]) + trainer)


PIECES = ["<s>", "<pad>", "</s>", "<unk>", "▁", "a", "é", "字", "|", "b", "c"]


def test_an_omnilingual_model_with_its_tokenizer(tmp_path):
    path, tensors, config = model_file(tmp_path, FAIRSEQ2_CTC, len(PIECES), fs2=True)
    assert_read(path, tensors, config, "fairseq2")
    (tmp_path / "tokenizer.model").write_bytes(sentencepiece(PIECES))
    given = {"config": tmp_path / "given.json", "vocabulary": tmp_path / "tokenizer.model"}
    made = convert(path, tmp_path / "made", **given)
    assert made.arrays_equal == len(tensors)
    tokenizer = Wav2Vec2Processor.from_pretrained(tmp_path / "made").tokenizer
    assert tokenizer.pad_token_id == 0  # the blank
    assert tokenizer.decode([0, 5, 5, 0, 5, 4, 4, 6, 0, 7, 8]) == "aa é字|"
    assert tokenizer("a é|").input_ids == [5, 4, 6, 8]
    (tmp_path / "short.model").write_bytes(sentencepiece(PIECES[:-1]))
    with pytest.raises(CheckpointError, match="10 tokens, the head 11 rows"):
        convert(path, tmp_path / "other", **{**given, "vocabulary": tmp_path / "short.model"})


def test_an_omnilingual_model_with_a_language_model_is_refused(tmp_path):
    config = Wav2Vec2Config(**{**TINY, **FAMILIES["large"], "mask_time_prob": 0.0})
    names = [FAIRSEQ2_CTC.stored(name.removeprefix(BODY_PREFIX)) for name in random_tensors(config, "ForCTC")]
    state = dict.fromkeys([*names, "llama_decoder.layers.0.ffn.inner_proj.weight"], np.zeros(1, np.float32))
    values, numbers = described(state)
    write_zip(tmp_path / "llm.pt", {"model": values}, numbers)
    with pytest.raises(CheckpointError, match=r"fairseq2's but has parameters .*llama_decoder.*another architecture"):
        open_bare_file(tmp_path / "llm.pt")


@pytest.mark.parametrize("cut", [1, 2, 7, 40])
def test_sentencepiece_files_that_are_damaged(tmp_path, cut):
    whole = sentencepiece(PIECES)
    path = tmp_path / "a.model"
    path.write_bytes(whole)
    assert [*read_pieces(path)] == PIECES
    path.write_bytes(whole[:-cut])
    with pytest.raises(CheckpointError, match="is no SentencePiece model, or damaged"):
        read_pieces(path)


def test_what_is_no_sentencepiece_file(tmp_path):
    path = tmp_path / "a.model"
    for content, message in (
        (b"", "has 0 pieces"),
        (json.dumps({"a": 1}).encode(), "no SentencePiece model"),
        (b"\xff" * 20, "no SentencePiece model"),
        (sentencepiece(["a", "a"]), "has 2 pieces, some of them twice"),
        (field(1, 0, b"\x01"), "no SentencePiece model"),
        (field(1, 2, b"\x04" + field(1, 2, b"\x02\xff\xfe")), "no SentencePiece model"),
    ):
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match=message):
            read_pieces(path)
    with pytest.raises(CheckpointError, match="cannot be read"):
        read_pieces(tmp_path / "none.model")
