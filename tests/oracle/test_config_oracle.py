"""Wav2Vec2Config and the parameter table against transformers."""

import itertools

import pytest
import torch
import transformers

from wav2vec2_core.config import Wav2Vec2Config
from wav2vec2_core.parameters import HEADS, parameter_table

pytestmark = pytest.mark.oracle

TINY = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48,
    "conv_dim": [8, 8, 8], "conv_stride": [5, 2, 2], "conv_kernel": [10, 3, 2], "num_conv_pos_embeddings": 8,
    "num_conv_pos_embedding_groups": 4, "tdnn_dim": [16] * 5, "codevector_dim": 8, "proj_codevector_dim": 8,
    "classifier_proj_size": 8, "xvector_output_dim": 8,
}  # fmt: skip


def test_every_field_and_default_is_theirs():
    theirs, ours = transformers.Wav2Vec2Config().to_dict(), Wav2Vec2Config().to_dict()
    base_class = set(transformers.PretrainedConfig().to_dict())
    specific = set(theirs) - (base_class - {"pad_token_id", "bos_token_id", "eos_token_id", "id2label", "label2id"})
    assert len(specific) >= 55
    for name in specific:
        assert theirs[name] == ours[name], name
    assert set(ours) - set(theirs) == {
        "masked_group_norm",
        "feature_penalty_weight",
        "feature_gradient_scale",
        "classifier_head",
    }


def test_config_files_go_both_ways(tmp_path):
    ours = Wav2Vec2Config(**TINY, id2label={0: "a", 1: "b", 2: "c"}, extra={"custom": [1, 2]}, dtype="float16")
    ours.save_pretrained(tmp_path)
    theirs = transformers.Wav2Vec2Config.from_pretrained(tmp_path)
    assert theirs.num_labels == 3
    assert theirs.custom == [1, 2]
    theirs.save_pretrained(tmp_path / "again")
    again = Wav2Vec2Config.from_pretrained(tmp_path / "again")
    kept = {name: again.to_dict()[name] for name in ours.to_dict()}
    assert kept == ours.to_dict()


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize(
    ("norm", "stable", "adapter"), [*itertools.product(("group", "layer"), (False, True), (False, True))]
)
def test_names_and_shapes_of_every_parameter(head, norm, stable, adapter):
    for adapter_dim, weighted, output_size, masking in itertools.product(
        (None, 4), (False, True), (32, 40), (0.05, 0.0)
    ):
        values = {
            **TINY, "feat_extract_norm": norm, "do_stable_layer_norm": stable, "add_adapter": adapter,
            "adapter_attn_dim": adapter_dim, "use_weighted_layer_sum": weighted, "output_hidden_size": output_size,
            "mask_time_prob": masking, "conv_bias": stable,
        }  # fmt: skip
        if adapter and head in ("ForSequenceClassification", "ForAudioFrameClassification"):
            continue  # neither library builds these
        with torch.device("meta"):
            model = getattr(transformers, f"Wav2Vec2{head}")(transformers.Wav2Vec2Config(**values))
        theirs = {
            name.replace("parametrizations.weight.original0", "weight_g")
            .replace("parametrizations.weight.original1", "weight_v"): tuple(value.shape)
            for name, value in model.state_dict().items()
        }  # fmt: skip
        ours = {name: row.shape for name, row in parameter_table(Wav2Vec2Config(**values), head).items()}
        assert ours == theirs
