"""Conversions between all formats, without a framework: bit for bit, what travels along, and what is refused."""

import itertools
import json
import os
import subprocess
import sys

import numpy as np
import pytest
from fairseq_writers import checkpoint
from random_models import FAMILIES, LETTERS, make_folder
from torch_writers import described, write_zip

from wav2vec2_core.checkpoint import ModelSource, open_checkpoint, open_model, write_adapter
from wav2vec2_core.config import Wav2Vec2Config
from wav2vec2_core.conversion import FORMATS, convert, receipt
from wav2vec2_core.errors import CheckpointError, InputError, OutputError
from wav2vec2_core.feature_extraction import Wav2Vec2FeatureExtractor
from wav2vec2_core.parameters import BODY_PREFIX
from wav2vec2_core.tokenization import Wav2Vec2CTCTokenizer
from wav2vec2_core.weight_files.dialects import TORCHAUDIO

HAS_H5PY = True
try:
    import h5py  # noqa: F401
except ModuleNotFoundError:
    HAS_H5PY = False
needs_h5py = pytest.mark.skipif(not HAS_H5PY, reason="h5py is not installed")
WITH_MARKS = [pytest.param(name, marks=needs_h5py) if name == "tf" else name for name in FORMATS]
RESULT = {"fairseq": "checkpoint_best.pt"}


@pytest.fixture(autouse=True)
def no_back_end(monkeypatch):
    """Outputs are compared in the tests of the back ends."""
    monkeypatch.setattr(receipt, "backend_names", list)


def result(folder, to):
    return folder / RESULT[to] if to in RESULT else folder


def arrays(model):
    opened = open_checkpoint(open_model(model))
    return {name: opened.read(name) for name in opened.shapes}


def assert_equal(found, expected):
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        assert found[name].dtype == array.dtype, name
        assert np.array_equal(found[name], array), name


def snapshot(folder):
    return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("second", WITH_MARKS)
@pytest.mark.parametrize("first", WITH_MARKS)
def test_every_pair_and_back(tmp_path, first, second):
    _, tensors = make_folder(tmp_path / "a", **FAMILIES["large"])
    convert(tmp_path / "a", tmp_path / "b", first)
    made = convert(result(tmp_path / "b", first), tmp_path / "c", second)
    assert made.arrays_equal == len(tensors)
    assert made.compared == "no back end is installed, outputs were not compared"
    convert(result(tmp_path / "c", second), tmp_path / "d")
    assert_equal(arrays(tmp_path / "d"), tensors)
    for kept in (tmp_path / "b", tmp_path / "c", tmp_path / "d"):
        assert json.loads((kept / "conversion.json").read_text())["arrays_equal"] == len(tensors)
    assert Wav2Vec2CTCTokenizer.from_pretrained(tmp_path / "d").get_vocab() == {t: i for i, t in enumerate(LETTERS)}
    assert Wav2Vec2FeatureExtractor.from_pretrained(tmp_path / "d").do_normalize


@pytest.mark.parametrize("to", WITH_MARKS)
@pytest.mark.parametrize(
    ("head", "family"),
    [*itertools.product(("Model", "ForPreTraining"), ("base", "large")), ("ForCTC", "mms"), ("ForCTC", "group-pre"),
     ("ForSequenceClassification", "base"), ("ForXVector", "large"), ("ForAudioFrameClassification", "base")],
)  # fmt: skip
def test_every_head(tmp_path, head, family, to):
    config, tensors = make_folder(tmp_path / "a", head, use_weighted_layer_sum=True, **FAMILIES[family])
    if to == "fairseq" and head not in ("Model", "ForPreTraining", "ForCTC"):
        with pytest.raises(InputError, match=f"fairseq has no Wav2Vec2{head}"):
            convert(tmp_path / "a", tmp_path / "b", to)
        assert not (tmp_path / "b").exists()
        return
    convert(tmp_path / "a", tmp_path / "b", to)
    made = convert(result(tmp_path / "b", to), tmp_path / "c")
    assert_equal(arrays(tmp_path / "c"), tensors)
    assert made.head == head
    assert made.parameters == sum(array.size for array in tensors.values())
    back = Wav2Vec2Config.from_pretrained(tmp_path / "c")
    if to != "fairseq":
        assert back == config.replace(dtype="float32")
    for name in ("num_attention_heads", "conv_stride", "do_stable_layer_norm", "mask_time_prob", "layerdrop"):
        assert getattr(back, name) == getattr(config, name)


@pytest.mark.parametrize("form", ["args", "omegaconf"])
def test_fairseq_with_its_dictionary(tmp_path, form):
    config, tensors = make_folder(tmp_path / "same", **FAMILIES["mms"])
    write_zip(tmp_path / "model.pt", *checkpoint(tensors, config, "ForCTC", form))
    (tmp_path / "dict.ltr.txt").write_text("".join(f"{token} 1\n" for token in LETTERS[4:]), encoding="utf-8")
    made = convert(tmp_path / "model.pt", tmp_path / "folder")
    assert_equal(arrays(tmp_path / "folder"), tensors)
    assert made.source_format == "fairseq"
    assert made.renamed["lm_head.weight"] == "w2v_encoder.proj.weight"
    assert made.renamed["wav2vec2.masked_spec_embed"] == "w2v_encoder.w2v_model.mask_emb"
    assert made.dropped == ["extra_state"]
    tokenizer = Wav2Vec2CTCTokenizer.from_pretrained(tmp_path / "folder")
    assert tokenizer.get_vocab() == {token: row for row, token in enumerate(LETTERS)}
    assert (tokenizer.pad_token_id, tokenizer.word_delimiter_token) == (0, "|")
    extractor = Wav2Vec2FeatureExtractor.from_pretrained(tmp_path / "folder")
    assert extractor.do_normalize
    assert extractor.return_attention_mask
    (tmp_path / "dict.ltr.txt").write_text("| 1\n")
    with pytest.raises(CheckpointError, match="5 tokens, the head 11 rows"):
        convert(tmp_path / "model.pt", tmp_path / "other")
    assert not (tmp_path / "other").exists()
    (tmp_path / "dict.ltr.txt").unlink()
    made = convert(tmp_path / "model.pt", tmp_path / "other")
    assert "no dict.ltr.txt" in made.notes[0]
    assert not (tmp_path / "other" / "vocab.json").exists()
    convert(tmp_path / "model.pt", tmp_path / "other", vocabulary=tmp_path / "same" / "vocab.json")
    assert (tmp_path / "other" / "vocab.json").exists()


def test_rows_move_into_fairseqs_order(tmp_path):
    """The blank is last and two special tokens are missing, as in many fine-tuned models."""
    vocabulary = ("a", "b", " ", "c", "é", "d", "e", "f", "g", "[UNK]", "[PAD]")
    _, tensors = make_folder(tmp_path / "a", vocabulary=vocabulary, **FAMILIES["base"])
    tokens = {"pad_token": "[PAD]", "unk_token": "[UNK]", "bos_token": None, "eos_token": None}
    (tmp_path / "a" / "tokenizer_config.json").write_text(json.dumps({**tokens, "word_delimiter_token": " "}))
    made = convert(tmp_path / "a", tmp_path / "b", "fairseq")
    assert "2 rows are new" in made.notes[0]
    lines = (tmp_path / "b" / "dict.ltr.txt").read_text().split("\n")
    assert lines == ["a 1", "b 1", "| 1", "c 1", "é 1", "d 1", "e 1", "f 1", "g 1", ""]
    order = [10, None, None, 9, *range(9)]
    found = arrays(tmp_path / "b" / "checkpoint_best.pt")
    for row, old in enumerate(order):
        for part in ("weight", "bias"):
            new = found[f"lm_head.{part}"][row]
            assert np.array_equal(new, tensors[f"lm_head.{part}"][old] if old is not None else new * 0 + new)
        if old is None:
            assert not found["lm_head.weight"][row].any()
            assert found["lm_head.bias"][row] == -1e4
    for token in ("<unk>", "", " a", "a\nb"):
        bad = {**{t: i for i, t in enumerate(vocabulary) if i != 4}, token: 4}
        (tmp_path / "a" / "vocab.json").write_text(json.dumps(bad))
        with pytest.raises(InputError, match=r"cannot stand in dict|tokens for the 11 rows"):
            convert(tmp_path / "a", tmp_path / "c", "fairseq")


def test_torchaudio_to_fairseq(tmp_path):
    _, tensors = make_folder(tmp_path / "a", vocabulary=LETTERS[::-1], mask_time_prob=0.0, **FAMILIES["large"])
    names = {TORCHAUDIO.stored(name.removeprefix(BODY_PREFIX)): array for name, array in tensors.items()}
    write_zip(tmp_path / "hub.pt", *described(names))
    given = {"config": tmp_path / "a" / "config.json", "vocabulary": tmp_path / "a" / "vocab.json"}
    made = convert(tmp_path / "hub.pt", tmp_path / "b", "fairseq", **given)
    assert (made.source_format, made.arrays_equal) == ("torchaudio", len(tensors))
    lines = (tmp_path / "b" / "dict.ltr.txt").read_text(encoding="utf-8").split("\n")
    assert lines == [*(f"{token} 1" for token in LETTERS[:3:-1]), ""]
    found = arrays(tmp_path / "b" / "checkpoint_best.pt")
    order = [10, 9, 8, 7, *range(7)]
    assert np.array_equal(found["lm_head.weight"], tensors["lm_head.weight"][order])
    (tmp_path / "short.json").write_text('{"<pad>": 0}')
    for to in ("fairseq", "safetensors"):
        with pytest.raises(CheckpointError, match="1 tokens, the head 11 rows"):
            convert(tmp_path / "hub.pt", tmp_path / "c", to, **{**given, "vocabulary": tmp_path / "short.json"})
    assert not (tmp_path / "c").exists()
    with pytest.raises(CheckpointError, match="--config"):
        convert(tmp_path / "hub.pt", tmp_path / "c")


@pytest.mark.parametrize("to", ["safetensors", "torch"])
def test_shards_and_types(tmp_path, to):
    _, tensors = make_folder(tmp_path / "a", **FAMILIES["large"])
    made = convert(tmp_path / "a", tmp_path / "b", to, max_shard_size="20KB", dtype="bfloat16")
    assert made.dtypes == ["bfloat16"]
    assert made.target_bytes < made.source_bytes * 0.7
    index = "model.safetensors.index.json" if to == "safetensors" else "pytorch_model.bin.index.json"
    assert set(json.loads((tmp_path / "b" / index).read_text())["weight_map"]) == set(tensors)
    assert Wav2Vec2Config.from_pretrained(tmp_path / "b").dtype == "bfloat16"
    found = arrays(tmp_path / "b")
    for name, array in tensors.items():
        assert np.array_equal(found[name], array.astype(found[name].dtype))


def test_what_travels_along(tmp_path):
    config, tensors = make_folder(tmp_path / "a", **FAMILIES["mms"])
    nested = {"eng": {token: row for row, token in enumerate(LETTERS)}, "fra": {"<pad>": 0, "a": 1}}
    (tmp_path / "a" / "vocab.json").write_text(json.dumps(nested))
    (tmp_path / "a" / "language_model").mkdir()
    (tmp_path / "a" / "language_model" / "5gram.bin").write_bytes(b"\0\1")
    (tmp_path / "a" / "alphabet.json").write_text("{}")
    (tmp_path / "a" / "optimizer.pt").write_bytes(b"x")
    config.extra["my_field"] = {"kept": True}
    config.save_pretrained(tmp_path / "a")
    adapters = {name: array * 2 for name, array in tensors.items() if "adapter_layer" in name or "lm_head" in name}
    write_adapter(tmp_path / "a", "fra", adapters)
    for source, target, to in (("a", "b", "torch"), ("b", "c", "safetensors")):
        made = convert(tmp_path / source, tmp_path / target, to)
        assert made.arrays_equal == len(tensors) + len(adapters)
        assert made.carried == ["vocab.json", "tokenizer_config.json", "preprocessor_config.json", "alphabet.json",
                                "language_model/5gram.bin"]  # fmt: skip
    assert (tmp_path / "b" / "adapter.fra.bin").exists()
    assert sorted(path.name for path in (tmp_path / "c").iterdir()) == [
        "adapter.fra.safetensors", "alphabet.json", "config.json", "conversion.json", "language_model",
        "model.safetensors", "preprocessor_config.json", "tokenizer_config.json", "vocab.json",
    ]  # fmt: skip
    original, copied = ((tmp_path / name / "adapter.fra.safetensors").read_bytes() for name in "ac")
    assert original == copied
    assert (tmp_path / "c" / "vocab.json").read_bytes() == (tmp_path / "a" / "vocab.json").read_bytes()
    assert Wav2Vec2Config.from_pretrained(tmp_path / "c").my_field == {"kept": True}
    with pytest.raises(InputError, match="several languages"):
        convert(tmp_path / "a", tmp_path / "d", "fairseq")


def test_names_of_a_hub_model_stay_in_its_folder(tmp_path, monkeypatch):
    make_folder(tmp_path / "a")
    source = open_model(tmp_path / "a")
    listing = ["config.json", "language_model/../../stolen", "language_model/a/b", "language_model/x.bin"]
    monkeypatch.setattr(type(source), "file_names", lambda self: listing)
    assert ModelSource.files_below(source, "language_model") == ["language_model/x.bin"]
    listing.append("language_model/..")
    with pytest.raises(CheckpointError, match="plain file name"):
        ModelSource.files_below(source, "language_model")


def test_another_head(tmp_path):
    _, tensors = make_folder(tmp_path / "a", "ForPreTraining")
    made = convert(tmp_path / "a", tmp_path / "b", head="Model")
    assert "quantizer.codevectors" in made.dropped
    body = {name.removeprefix("wav2vec2."): array for name, array in tensors.items() if name.startswith("wav2vec2.")}
    assert_equal(arrays(tmp_path / "b"), body)
    assert Wav2Vec2Config.from_pretrained(tmp_path / "b").architectures == ("Wav2Vec2Model",)
    with pytest.raises(CheckpointError, match="not trained"):
        convert(tmp_path / "a", tmp_path / "c", head="ForCTC")
    assert not (tmp_path / "c").exists()


def test_an_unused_mask_embedding_is_kept(tmp_path):
    config, tensors = make_folder(tmp_path / "a")
    config.replace(mask_time_prob=0.0).save_pretrained(tmp_path / "a")
    assert convert(tmp_path / "a", tmp_path / "b").dropped == []
    assert_equal(arrays(tmp_path / "b"), tensors)


# ---- refusals -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"to": "onnx"}, "format 'onnx'"), ({"head": "ForSpeech"}, "head 'ForSpeech'"),
        ({"dtype": "int8"}, "dtype 'int8'"),
        ({"max_shard_size": "big"}, "is no size"), ({"to": "flax", "max_shard_size": "1GB"}, "one file"),
        ({"vocabulary": "x"}, "its own vocab.json"),
    ],
)  # fmt: skip
def test_wrong_arguments(tmp_path, options, says):
    make_folder(tmp_path / "a")
    with pytest.raises(InputError, match=says):
        convert(tmp_path / "a", tmp_path / "b", **options)
    assert not (tmp_path / "b").exists()


def test_source_and_strangers_are_never_overwritten(tmp_path):
    make_folder(tmp_path / "a")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    make_folder(tmp_path / "other")
    before = snapshot(tmp_path)
    targets = ("a", "a/inside", ".", "mine", "other", "a/../a", "mine/thesis.txt")
    for target in targets:
        with pytest.raises(OutputError):
            convert(tmp_path / "a", tmp_path / target)
        assert snapshot(tmp_path) == before
    (tmp_path / "link").symlink_to(tmp_path / "a")
    with pytest.raises(OutputError, match="overlap"):
        convert(tmp_path / "a", tmp_path / "link")
    convert(tmp_path / "a", tmp_path / "new")
    convert(tmp_path / "a", tmp_path / "new", "torch")  # an earlier result is replaced
    assert not (tmp_path / "new" / "model.safetensors").exists()
    (tmp_path / "new" / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match=r"notes\.txt"):
        convert(tmp_path / "a", tmp_path / "new")
    assert (tmp_path / "new" / "pytorch_model.bin").exists()


def test_nothing_is_left_of_a_failure(tmp_path):
    make_folder(tmp_path / "a")
    path = tmp_path / "a" / "model.safetensors"
    whole = path.read_bytes()
    for content in (whole[:-9], whole[:100], b"", b"\x80\x02cos\nsystem\n."):
        path.write_bytes(content)
        before = snapshot(tmp_path)
        with pytest.raises(CheckpointError):
            convert(tmp_path / "a", tmp_path / "b", "torch")
        assert snapshot(tmp_path) == before
        assert sorted(item.name for item in tmp_path.iterdir()) == ["a"]


def test_a_source_that_shrinks_meanwhile(tmp_path, monkeypatch):
    make_folder(tmp_path / "a")
    path = tmp_path / "a" / "model.safetensors"

    def shrink(*arguments):
        path.write_bytes(path.read_bytes()[:-40])

    monkeypatch.setattr("wav2vec2_core.conversion.converting._check_target", shrink)
    with pytest.raises(CheckpointError, match="truncated"):
        convert(tmp_path / "a", tmp_path / "b")
    assert sorted(item.name for item in tmp_path.iterdir()) == ["a"]


def test_a_disk_that_lies_is_noticed(tmp_path, monkeypatch):
    make_folder(tmp_path / "a")
    real = open_checkpoint

    def flipped(source):
        opened = real(source)
        if source.name != str(tmp_path / "a"):
            path = opened.files[0]
            content = bytearray(path.read_bytes())
            content[-3] ^= 1
            path.write_bytes(content)
        return opened

    monkeypatch.setattr("wav2vec2_core.conversion.converting.open_checkpoint", flipped)
    with pytest.raises(OutputError, match="changed after writing"):
        convert(tmp_path / "a", tmp_path / "b")
    assert not (tmp_path / "b").exists()


# ---- memory ---------------------------------------------------------------------------------------------------------

MEASURE = """
import sys
from wav2vec2_core.conversion import convert

def kibibytes(field):
    for line in open("/proc/self/status"):
        if line.startswith(field + ":"):
            return int(line.split()[1])

convert(sys.argv[1], sys.argv[2] + "-first", "safetensors", verify=False)  # imports
open("/proc/self/clear_refs", "w").write("5")
before = kibibytes("VmHWM")
for to in sys.argv[3:]:
    convert(sys.argv[1], sys.argv[2] + to, to, verify=False)
print(kibibytes("VmHWM") - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="measures through /proc")
def test_memory_is_that_of_the_largest_parameter(tmp_path):
    wide = {"hidden_size": 1024, "intermediate_size": 2048, "num_hidden_layers": 3, "num_conv_pos_embedding_groups": 16}
    _, tensors = make_folder(tmp_path / "a", "ForCTC", **FAMILIES["large"], **wide)
    size, largest = (f(array.nbytes for array in tensors.values()) for f in (sum, max))
    assert size > 90e6
    formats = [name for name in FORMATS if name != "tf" or HAS_H5PY]
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(tmp_path / "a"), str(tmp_path / "to-"), *formats],
        capture_output=True, text=True, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) * 1024 < 3 * largest + 12e6 < size / 2
