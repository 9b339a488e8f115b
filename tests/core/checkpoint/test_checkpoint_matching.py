"""plan_loading: what may differ between a model and a checkpoint, and that nothing else may."""

from types import SimpleNamespace

import pytest

from wav2vec2_core.checkpoint import plan_loading
from wav2vec2_core.config import Wav2Vec2Config
from wav2vec2_core.errors import CheckpointError, ParameterMismatchError
from wav2vec2_core.parameters import BODY_PREFIX, HEADS, parameter_table

SIZES = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "conv_dim": (8, 8),
    "conv_kernel": (4, 3),
    "conv_stride": (2, 2),
    "num_conv_pos_embeddings": 4,
    "num_conv_pos_embedding_groups": 2,
    "classifier_proj_size": 10,
    "tdnn_dim": (12, 14),
    "tdnn_kernel": (3, 1),
    "tdnn_dilation": (1, 1),
    "xvector_output_dim": 9,
    "vocab_size": 7,
    "num_codevectors_per_group": 4,
    "codevector_dim": 6,
    "proj_codevector_dim": 5,
}
CONFIG = Wav2Vec2Config(**SIZES)
ADAPTED = CONFIG.replace(do_stable_layer_norm=True, adapter_attn_dim=3)
BODY = [name for name in parameter_table(CONFIG, "Model") if name != "masked_spec_embed"]


def file_of(head, config=CONFIG, drop=(), **others):
    shapes = {name: row.shape for name, row in parameter_table(config, head).items() if name not in drop}
    return SimpleNamespace(shapes={**shapes, **others}, files=["folder/model.safetensors"])


def plan(head, checkpoint, config=CONFIG, **options):
    return plan_loading(parameter_table(config, head), checkpoint, **options)


def mismatch(head, checkpoint, config=CONFIG, **options):
    with pytest.raises(ParameterMismatchError) as caught:
        plan(head, checkpoint, config, **options)
    first, *lists = str(caught.value).splitlines()
    assert first.startswith("folder/model.safetensors does not fit the model, parameters ")
    assert len(first) < 400
    titles = [line.split(" (")[0] for line in lists if not line.startswith("  ")]
    assert titles == ["ours", "theirs", "only ours", "only theirs", "of another shape"]
    return first, "\n".join(lists)


@pytest.mark.parametrize("head", HEADS)
def test_the_same_head(head):
    table = parameter_table(CONFIG, head)
    found = plan(head, file_of(head))
    assert found.sources == {name: name for name in table}
    assert found.new == found.ignored == ()


@pytest.mark.parametrize("head", HEADS[1:])
def test_a_head_on_a_bare_body(head):
    found = plan(head, file_of("Model"))
    assert found.sources == {BODY_PREFIX + name: name for name in parameter_table(CONFIG, "Model")}
    assert found.new == tuple(name for name in parameter_table(CONFIG, head) if not name.startswith(BODY_PREFIX))
    assert found.ignored == ()


@pytest.mark.parametrize("head", HEADS[1:])
def test_the_body_of_a_file_with_a_head(head):
    found = plan("Model", file_of(head))
    assert found.sources == {name: BODY_PREFIX + name for name in parameter_table(CONFIG, "Model")}
    assert found.new == ()
    assert found.ignored == tuple(name for name in parameter_table(CONFIG, head) if not name.startswith(BODY_PREFIX))


def test_fine_tuning_from_pretraining():
    found = plan("ForCTC", file_of("ForPreTraining"))
    assert found.new == ("lm_head.weight", "lm_head.bias")
    assert set(found.ignored) == {
        "quantizer.codevectors", "quantizer.weight_proj.weight", "quantizer.weight_proj.bias",
        "project_q.weight", "project_q.bias", "project_hid.weight", "project_hid.bias",
    }  # fmt: skip


def test_the_mask_embedding_may_be_missing_or_unused():
    assert plan("ForCTC", file_of("ForCTC", drop=["wav2vec2.masked_spec_embed"])).new == ("wav2vec2.masked_spec_embed",)
    assert plan("Model", file_of("Model", drop=["masked_spec_embed"])).new == ("masked_spec_embed",)
    unmasked = CONFIG.replace(mask_time_prob=0.0, mask_feature_prob=0.0)
    assert plan("ForCTC", file_of("ForCTC"), unmasked).ignored == ("wav2vec2.masked_spec_embed",)
    assert plan("Model", file_of("ForCTC"), unmasked).ignored[0] == "wav2vec2.masked_spec_embed"


def test_attention_adapters_are_new_together():
    found = plan("ForCTC", file_of("ForCTC", CONFIG.replace(do_stable_layer_norm=True)), ADAPTED)
    assert len(found.new) == 12
    assert all(".adapter_layer." in name for name in found.new)
    first = "wav2vec2.encoder.layers.0.adapter_layer.norm.weight"
    assert f"1 missing ({first})" in mismatch("ForCTC", file_of("ForCTC", ADAPTED, drop=[first]), ADAPTED)[0]


def test_a_convolutional_adapter_is_new_as_a_whole():
    adapted = CONFIG.replace(add_adapter=True, num_adapter_layers=2)
    found = plan("ForCTC", file_of("ForPreTraining"), adapted)
    assert [name for name in found.new if ".adapter." in name] == [
        f"wav2vec2.adapter.layers.{layer}.conv.{leaf}" for layer in range(2) for leaf in ("weight", "bias")
    ]
    first = "wav2vec2.adapter.layers.0.conv.weight"
    assert f"1 missing ({first})" in mismatch("ForCTC", file_of("ForCTC", adapted, drop=[first]), adapted)[0]


def test_adapters_that_the_model_lacks_are_not_dropped():
    first, lists = mismatch("ForCTC", file_of("ForCTC", ADAPTED), ADAPTED.replace(adapter_attn_dim=None))
    assert "12 unexpected (wav2vec2.encoder.layers.0.adapter_layer.norm.weight, ...)" in first
    assert "only theirs (12):" in lists


@pytest.mark.parametrize("name", BODY)
@pytest.mark.parametrize("prefix", ["", BODY_PREFIX])
def test_no_body_parameter_may_be_missing_or_of_another_shape(name, prefix):
    head = "ForCTC" if prefix else "Model"
    first, lists = mismatch("ForCTC", file_of(head, drop=[prefix + name]))
    assert f"1 missing (wav2vec2.{name})" in first
    assert f"only ours (1):\n  wav2vec2.{name}\nonly theirs (0):" in lists
    for options in ({}, {"ignore_mismatched_sizes": True}):
        first, lists = mismatch("Model", file_of(head, **{prefix + name: (3, 3, 3, 3)}), **options)
        assert f"1 of another shape ({name}: ours " in first
        assert "theirs (3, 3, 3, 3)" in lists
        assert "config.json that belongs" in first


@pytest.mark.parametrize(
    "name",
    ["wav2vec2.encoder.layers.2.layer_norm.weight", "wav2vec2.lm_head.weight", "lm_head.scale", "decoder.weight", "x"],
)
def test_no_unknown_parameter_is_dropped(name):
    assert f"1 unexpected ({name})" in mismatch("ForCTC", file_of("ForCTC", **{name: (1,)}))[0]


def test_the_last_layer_of_x_vectors_is_no_part_of_a_bare_body():
    assert "unexpected" in mismatch("ForCTC", file_of("Model", **{"feature_extractor.weight": (1,)}))[0]
    assert "feature_extractor.weight" in plan("ForCTC", file_of("ForXVector")).ignored
    assert "feature_extractor.weight" in plan("ForXVector", file_of("Model")).new


def test_a_head_is_whole_or_absent():
    first, _ = mismatch("ForCTC", file_of("ForCTC", drop=["lm_head.bias"]))
    assert "1 missing (lm_head.bias)" in first
    assert "architectures" in first
    assert "1 missing" in mismatch("ForPreTraining", file_of("ForPreTraining", drop=["project_q.bias"]))[0]
    weighted = CONFIG.replace(use_weighted_layer_sum=True)
    assert "layer_weights" in mismatch("ForXVector", file_of("ForXVector"), weighted)[0]


def test_heads_of_another_size():
    small = CONFIG.replace(vocab_size=5)
    first, lists = mismatch("ForCTC", file_of("ForCTC"), small)
    assert "2 of another shape (lm_head.weight: ours (5, 16), theirs (7, 16), ...)" in first
    assert "ignore_mismatched_sizes=True" in first
    assert "lm_head.bias: ours (5,), theirs (7,)" in lists
    found = plan("ForCTC", file_of("ForCTC"), small, ignore_mismatched_sizes=True)
    assert found.new == found.ignored == ("lm_head.weight", "lm_head.bias")
    assert "lm_head.weight" not in found.sources
    found = plan("ForSequenceClassification", file_of("ForSequenceClassification"), CONFIG.replace(num_labels=9),
                 ignore_mismatched_sizes=True)  # fmt: skip
    assert found.new == ("classifier.weight", "classifier.bias")
    assert found.sources["projector.weight"] == "projector.weight"


def test_long_lists_are_cut():
    names = {f"unknown.{number}": (1,) for number in range(30)}
    first, lists = mismatch("ForCTC", file_of("ForCTC", **names))
    assert "30 unexpected (unknown.0, ...)" in first
    assert "unknown.19\n  ... and 10 more" in lists
    assert "unknown.20" not in lists


def test_another_model_altogether():
    other = SimpleNamespace(shapes={"bert.weight": (1,)}, files=["folder/model.safetensors"])
    first, _ = mismatch("Model", other)
    assert f"{len(BODY)} missing" in first
    assert "1 unexpected" in first


def test_the_error_can_be_caught_as_a_checkpoint_error():
    with pytest.raises(CheckpointError):
        plan("Model", file_of("Model", drop=BODY))
