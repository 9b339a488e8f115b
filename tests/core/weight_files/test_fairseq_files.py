"""Checkpoints of fairseq, fairseq2 and torchaudio, read as data: names, settings, vocabularies; and hostile ones."""

import os
import pickle

import numpy as np
import pytest
from fairseq_writers import checkpoint, fairseq_state
from model_cases import TINY
from random_models import FAMILIES, random_tensors
from torch_writers import Instance, Named, described, write_legacy, write_zip

from wav2vec2_core.checkpoint import open_checkpoint, open_model, plan_loading
from wav2vec2_core.config import Wav2Vec2Config
from wav2vec2_core.errors import CheckpointError, ConfigError
from wav2vec2_core.parameters import BODY_PREFIX, parameter_table
from wav2vec2_core.weight_files.dialects import FAIRSEQ, FAIRSEQ2_CTC, FAIRSEQ2_PRETRAINING, TORCHAUDIO
from wav2vec2_core.weight_files.fairseq import parse_conv_layers, read_dictionary

HEADS = ("Model", "ForPreTraining", "ForCTC")
#: What shapes and settings cannot show: how the heads of TINY are counted.
STATED = {"num_attention_heads", "conv_stride", "do_stable_layer_norm", "hidden_act", "feat_extract_norm"}


def tiny(**fields):
    return Wav2Vec2Config(**{**TINY, **fields})


def write(path, value, numbers, layout="zip"):
    (write_zip if layout == "zip" else write_legacy)(path, value, numbers)
    return path


def assert_same(path, config, head, tensors):
    source = open_model(path)
    found = Wav2Vec2Config.from_source(source)
    opened = open_checkpoint(source)
    plan = plan_loading(parameter_table(found, head), opened)
    assert not plan.new
    assert not plan.ignored
    assert plan.sources.keys() == tensors.keys()
    for ours, theirs in plan.sources.items():
        assert np.array_equal(opened.read(theirs), tensors[ours]), ours
    for name in ("hidden_size", "num_hidden_layers", "intermediate_size", "conv_dim", "conv_kernel", "conv_bias",
                 "num_conv_pos_embeddings", "num_conv_pos_embedding_groups", "adapter_attn_dim", *STATED):  # fmt: skip
        assert getattr(found, name) == getattr(config, name), name
    return found, source.content


@pytest.mark.parametrize("form", ["args", "cfg", "omegaconf"])
@pytest.mark.parametrize("layout", ["zip", "legacy"])
@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("family", FAMILIES)
def test_every_form_of_fairseq(tmp_path, family, head, layout, form):
    config = tiny(**FAMILIES[family])
    tensors = random_tensors(config, head)
    path = write(tmp_path / "model.pt", *checkpoint(tensors, config, head, form), layout)
    found, content = assert_same(path, config, head, tensors)
    assert content.program == "fairseq"
    assert content.do_normalize
    assert content.guessed == ()
    assert content.dropped == ("extra_state",)
    if head == "ForCTC":  # the fine-tuning's own settings win over the pretraining's
        assert (found.layerdrop, found.final_dropout, found.hidden_dropout) == (0.07, 0.03, 0.02)
        assert (found.mask_time_prob, found.apply_spec_augment) == (0.5, True)
        assert found.vocab_size == 11
    else:
        assert (found.layerdrop, found.hidden_dropout, found.mask_time_prob) == (0.05, 0.11, 0.65)
    if head == "ForPreTraining":
        assert (found.num_codevector_groups, found.num_codevectors_per_group) == (2, 8)
        assert (found.codevector_dim, found.proj_codevector_dim) == (16, 12)


@pytest.mark.parametrize("head", ["ForPreTraining", "ForCTC"])
@pytest.mark.parametrize("family", ["base", "large", "group-pre"])
def test_fairseq2(tmp_path, family, head):
    config = tiny(**FAMILIES[family])
    dialect = FAIRSEQ2_CTC if head == "ForCTC" else FAIRSEQ2_PRETRAINING
    norm = "group" if config.feat_extract_norm == "layer" else "layer"
    unused = {f"encoder_frontend.feature_extractor.layers.{{}}.{norm}_norm",
              "encoder_frontend.layer_norm" if config.do_stable_layer_norm else "encoder.layer_norm"}  # fmt: skip
    tensors = random_tensors(config, head)
    state = {dialect.stored(name.removeprefix(BODY_PREFIX), unused): array for name, array in tensors.items()}
    assert ("encoder.layer_norm.weight" in state) == config.do_stable_layer_norm
    values, numbers = described(state)
    path = write(tmp_path / "omni.pt", {"model": values, "fs2": True}, numbers)
    with pytest.raises(CheckpointError, match=r"strides.*--config"):
        Wav2Vec2Config.from_source(open_model(path))
    content = _with_config(path, config)
    assert content.program == "fairseq2"
    for name, array in tensors.items():
        assert np.array_equal(content.checkpoint.read(name), array)


def _with_config(path, config):
    from wav2vec2_core.weight_files.bare_file import open_bare_file

    return open_bare_file(path, None if config is None else config.to_dict())


@pytest.mark.parametrize("head", ["Model", "ForCTC"])
@pytest.mark.parametrize("family", ["base", "large"])
def test_torchaudio(tmp_path, family, head):
    config = tiny(**FAMILIES[family], mask_time_prob=0.0)
    tensors = random_tensors(config, head)
    state = {TORCHAUDIO.stored(name.removeprefix(BODY_PREFIX)): array for name, array in tensors.items()}
    assert "encoder.transformer.layers.1.feed_forward.output_dense.bias" in state
    assert ("aux.weight" in state) == (head == "ForCTC")
    path = write(tmp_path / "hub.pth", *described(state))
    content = _with_config(path, config)
    assert content.program == "torchaudio"
    assert content.guessed == ("do_normalize",)
    for name, array in tensors.items():
        assert np.array_equal(content.checkpoint.read(name), array)


def test_released_sizes_are_guessed(tmp_path):
    """Names and shapes of a LARGE torchaudio model, cut to one layer."""
    sizes = {"codevector_dim": 256, "proj_codevector_dim": 256}  # of pretraining, which this file has no part of
    config = Wav2Vec2Config.preset("large-lv60", num_hidden_layers=1, mask_time_prob=0.0, **sizes)
    table = parameter_table(config, "ForCTC")
    names = {TORCHAUDIO.stored(name.removeprefix(BODY_PREFIX)): row.shape for name, row in table.items()}
    values, numbers = described({name: np.zeros(shape, np.float32) for name, shape in names.items()})
    path = write(tmp_path / "large.pt", values, numbers)
    found = Wav2Vec2Config.from_source(open_model(path))
    assert found.replace(mask_time_prob=0.0) == config
    assert open_model(path).content.guessed == (
        "conv_stride",
        "num_attention_heads",
        "do_stable_layer_norm",
        "do_normalize",
    )


# ---- dictionaries ---------------------------------------------------------------------------------------------------


def test_dictionary(tmp_path):
    path = tmp_path / "dict.ltr.txt"
    path.write_text("| 94802\nE 51860\nж 3\n' 1 #fairseq:overwrite\n", encoding="utf-8")
    assert read_dictionary(path) == {"<pad>": 0, "<s>": 1, "</s>": 2, "<unk>": 3, "|": 4, "E": 5, "ж": 6, "'": 7}
    for text in ("|\n", "| x\n", "| 1\n| 2\n", " 3\n", "<s> 1\n"):
        path.write_text(text)
        with pytest.raises(CheckpointError, match=r"dict\.ltr\.txt"):
            read_dictionary(path)
    path.write_bytes(b"\xff 1\n")
    with pytest.raises(CheckpointError, match="UTF-8"):
        read_dictionary(path)


def test_dictionary_within_the_checkpoint(tmp_path):
    config = tiny(**FAMILIES["large"])
    symbols = ["<s>", "<pad>", "</s>", "<unk>", "|", "a", "b", "c", "d", "e", "f"]
    dictionary = Instance("fairseq.data.dictionary.Dictionary", {"symbols": symbols, "count": [1] * 11})
    value = checkpoint(
        random_tensors(config, "ForCTC"), config, "ForCTC", "cfg", task_state={"target_dictionary": dictionary}
    )
    content = open_model(write(tmp_path / "model.pt", *value)).content
    assert list(content.vocabulary) == ["<pad>", "<s>", *symbols[2:]]
    assert list(content.vocabulary.values()) == list(range(11))


# ---- settings -------------------------------------------------------------------------------------------------------


def test_convolutions_without_eval():
    base = "[(512, 10, 5)] + [(512, 3, 2)] * 4 + [(512,2,2)] + [(512,2,2)]"
    config = Wav2Vec2Config()
    layers = list(zip(config.conv_dim, config.conv_kernel, config.conv_stride, strict=True))
    assert parse_conv_layers(base, "f") == layers
    assert parse_conv_layers(str(layers), "f") == layers


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('true')", "[(1,2,3)] * 10**9", "[(1,2,3)] * 99999999", "[[(1,2,3)] * 60] * 60", "",
        "[]",
        "[(1,2)]", "[(1,2,-3)]", "[(1,2,3.0)]", "[(True,2,3)]", "(" * 500, "[(1,2,3)] + 3", "[x for x in [(1,2,3)]]",
        "[(1,2,3)]" + " + [(1,2,3)]" * 500, "\0", "lambda: 1", "[(1,2,1 << 99)]", "[(512,10,5)] * -1",
    ],
)  # fmt: skip
def test_expressions_that_are_no_list(text):
    with pytest.raises(CheckpointError, match="conv_feature_layers"):
        parse_conv_layers(text, "f.pt")


def refused(path):
    with pytest.raises(CheckpointError) as caught:
        Wav2Vec2Config.from_source(open_model(path))
    message = str(caught.value).splitlines()[0]
    assert len(message) < 700
    return message


@pytest.mark.parametrize("kind", ["hubert", "hubert_ctc", "data2vec_audio", "wav2vec_seq2seq", "wav2vec"])
def test_other_models_of_fairseq(tmp_path, kind):
    config = tiny(**FAMILIES["large"])
    value, numbers = checkpoint(random_tensors(config, "ForCTC"), config, "ForCTC", "cfg")
    value["cfg"]["model"]["_name"] = kind
    assert kind in refused(write(tmp_path / "model.pt", value, numbers))


def test_other_parameters(tmp_path):
    config = tiny(**FAMILIES["large"])
    tensors = random_tensors(config, "Model")
    state = fairseq_state(tensors, config, "Model")
    for extra in ("label_embs_concat", "target_glu.0.weight", "encoder.layers.0.conv_module.weight", "decoder.x"):
        values, numbers = described({**state, extra: np.zeros(3, np.float32)})
        message = refused(write(tmp_path / "model.pt", {"model": values, "args": None}, numbers))
        assert extra in message
        assert "another architecture" in message
    values, numbers = described({"bert.embeddings.weight": np.zeros(3, np.float32)})
    assert "bert.embeddings" in refused(write(tmp_path / "bert.pt", values, numbers))
    values, numbers = described(tensors)
    assert "name the folder" in refused(write(tmp_path / "hf.pt", values, numbers))
    assert "no tensors" in refused(write(tmp_path / "none.pt", {"model": {"a": 1}}, {}))
    several = {**state, "encoder.layers.0.adapter_layer.W_a": np.zeros((3, 6, 32), np.float32)}
    values, numbers = described(several)
    assert "3 languages" in refused(write(tmp_path / "adapters.pt", {"model": values}, numbers))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("encoder_layers", "twelve"), ("encoder_attention_heads", 5), ("encoder_attention_heads", 0), ("dropout", 7.0),
        ("activation_fn", "os.system"), ("extractor_mode", "group"), ("conv_feature_layers", "exit()"),
        ("encoder_embed_dim", 10**30), ("conv_pos", -1), ("encoder_layers", 10**12),
    ],
)  # fmt: skip
def test_settings_that_contradict(tmp_path, field, value):
    config = tiny(**FAMILIES["large"])
    content, numbers = checkpoint(random_tensors(config, "Model"), config, "Model", "cfg")
    content["cfg"]["model"][field] = value
    source = open_model(write(tmp_path / "model.pt", content, numbers))
    with pytest.raises((CheckpointError, ConfigError)):
        plan_loading(parameter_table(Wav2Vec2Config.from_source(source), "Model"), open_checkpoint(source))


def test_settings_without_end(tmp_path):
    config = tiny(**FAMILIES["large"])
    state, numbers = described(fairseq_state(random_tensors(config, "Model"), config, "Model"))
    loop = {}
    loop["model"] = loop
    assert "without end" in refused(write(tmp_path / "model.pt", {"model": state, "cfg": loop}, numbers))
    wide = [0]
    for _ in range(30):
        wide = [wide, wide]
    assert "without end" in refused(write(tmp_path / "model.pt", {"model": state, "cfg": {"a": wide}}, numbers))


class Call:
    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


@pytest.mark.parametrize("layout", ["zip", "legacy"])
@pytest.mark.parametrize("place", ["cfg", "args", "extra_state", "model"])
def test_nothing_in_a_checkpoint_is_run(tmp_path, place, layout):
    canary = tmp_path / "canary"
    config = tiny(**FAMILIES["large"])
    value, numbers = checkpoint(random_tensors(config, "Model"), config, "Model", "cfg")
    command = f"touch {canary}"
    hostile = {
        "system": Call(os.system, command), "eval": Call(eval, "1"), "exec": Call(exec, "1"),
        "getattr": Call(getattr, "", "join"), "import": Call(__import__, "os"),
        "popen": Instance("subprocess.Popen", None, (command,)), "runpy": Named("runpy.run_path", (command,)),
        "pickle": Call(pickle.loads, b""), "torch": Named("torch.load", (command,)),
        "hub": Named("torch.hub.load", (command,)), "partial": Named("functools.partial", (command,)),
    }  # fmt: skip
    path = tmp_path / "model.pt"
    for name, item in hostile.items():
        inner = {**value, place: {**value[place], "x": item} if isinstance(value[place], dict) else item}
        write(path, inner, numbers, layout)
        message = refused(path)
        assert "nothing in it was run" in message, name
        assert "looks up" in message, name
    assert not canary.exists()


def test_objects_never_become_anything_else(tmp_path):
    """Classes of fairseq may occur; whatever they say they are, they are names and attributes here."""
    config = tiny(**FAMILIES["large"])
    value, numbers = checkpoint(random_tensors(config, "Model"), config, "Model", "cfg")
    value["extra_state"]["x"] = Instance("fairseq.os.system", {"a": 1}, ("touch canary",))
    path = write(tmp_path / "model.pt", value, numbers)
    Wav2Vec2Config.from_source(open_model(path))
    assert not (tmp_path / "canary").exists()


def test_folders_refuse_what_only_checkpoints_may_hold(tmp_path):
    values, numbers = described({"a": np.ones(2, np.float32)})
    write_zip(tmp_path / "pytorch_model.bin", {**values, "b": Instance("argparse.Namespace", {})}, numbers)
    with pytest.raises(CheckpointError, match=r"argparse\.Namespace"):
        open_checkpoint(open_model(tmp_path))


def test_tables_have_no_place_twice():
    for dialect in (FAIRSEQ, TORCHAUDIO, FAIRSEQ2_CTC, FAIRSEQ2_PRETRAINING):
        for config in (tiny(**FAMILIES[family]) for family in ("base", "large")):
            head = "ForPreTraining" if dialect in (FAIRSEQ, FAIRSEQ2_PRETRAINING) else "ForCTC"
            for name in parameter_table(config, head):
                ours = name.removeprefix(BODY_PREFIX)
                stored = dialect.stored(ours)
                if dialect is TORCHAUDIO and ours == "masked_spec_embed":
                    assert stored is None
                    continue
                assert stored is not None, ours
                assert dialect.canonical(stored)[0] == ours
