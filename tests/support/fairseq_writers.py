"""Checkpoints as fairseq's own torch.save leaves them, from instructions: settings in every form it has had."""

import numpy as np
from torch_writers import Instance, described

#: fairseq's names by ours, typed in from its modules; the tests compare the library's tables with these.
BODY = {
    "feature_projection.layer_norm": "layer_norm",
    "feature_projection.projection": "post_extract_proj",
    "encoder.pos_conv_embed.conv": "encoder.pos_conv.0",
    "encoder.layer_norm": "encoder.layer_norm",
    "attention": "self_attn",
    "layer_norm": "self_attn_layer_norm",
    "feed_forward.intermediate_dense": "fc1",
    "feed_forward.output_dense": "fc2",
}
ADAPTER = {
    "linear_1.weight": "W_a", "linear_1.bias": "b_a", "linear_2.weight": "W_b", "linear_2.bias": "b_b",
    "norm.weight": "ln_W", "norm.bias": "ln_b",
}  # fmt: skip


def fairseq_state(tensors, config, head):
    """The state dict of fairseq's model with these values."""
    state = {}
    for name, array in tensors.items():
        ours = name.removeprefix("wav2vec2.")
        parts = ours.split(".")
        if ours == "masked_spec_embed":
            theirs = "mask_emb"
        elif ours.startswith("feature_extractor.conv_layers.") and name != "feature_extractor.weight":
            norm = "2" if config.feat_extract_norm == "group" else "2.1"
            theirs = ".".join([*parts[:3], "0" if parts[3] == "conv" else norm, parts[4]])
        elif ".adapter_layer." in ours:
            theirs = ".".join([*parts[:4], ADAPTER[".".join(parts[4:])]])
            array = array[None]
        elif ours.startswith("encoder.layers."):
            inner, leaf = ".".join(parts[3:-1]), parts[-1]
            inner = inner.replace("attention.", "self_attn.") if "attention" in inner else BODY.get(inner, inner)
            theirs = ".".join([*parts[:3], inner, leaf])
        elif name == ours and head == "ForCTC":
            theirs = f"w2v_encoder.proj.{parts[-1]}"
        elif ours == "quantizer.codevectors":
            theirs = "quantizer.vars"
        elif ours.startswith("project_hid."):
            theirs = ours.replace("project_hid", "final_proj")
        else:
            owner = ".".join(parts[:-1])
            theirs = f"{BODY.get(owner, owner)}.{parts[-1]}"
        in_body = head == "ForCTC" and not theirs.startswith("w2v_encoder.")
        state["w2v_encoder.w2v_model." + theirs if in_body else theirs] = array
    return state


def body_settings(config):
    return {
        "extractor_mode": "layer_norm" if config.feat_extract_norm == "layer" else "default",
        "encoder_layers": config.num_hidden_layers,
        "encoder_embed_dim": config.hidden_size,
        "encoder_ffn_embed_dim": config.intermediate_size,
        "encoder_attention_heads": config.num_attention_heads,
        "activation_fn": "gelu",
        "layer_norm_first": config.do_stable_layer_norm,
        "conv_bias": config.conv_bias,
        "conv_feature_layers": "[(16, 10, 5)] + [(20, 3, 2)] * 1 + 1 * [(24,2,2)]",
        "conv_pos": config.num_conv_pos_embeddings,
        "conv_pos_groups": config.num_conv_pos_embedding_groups,
        "dropout": 0.11, "mask_prob": 0.65, "encoder_layerdrop": 0.05, "latent_vars": 8, "latent_groups": 2,
    }  # fmt: skip


def container(value):
    """omegaconf's containers for dicts, lists and single values."""
    if isinstance(value, dict):
        content = {key: container(item) for key, item in value.items()}
        return Instance("omegaconf.dictconfig.DictConfig", {"_metadata": None, "_content": content, "_parent": None})
    if isinstance(value, list):
        return Instance("omegaconf.listconfig.ListConfig", {"_content": [container(item) for item in value]})
    return Instance("omegaconf.nodes.AnyNode", {"_metadata": None, "_val": value})


def checkpoint(tensors, config, head, form, **more):
    """(value to pickle, numbers of its storages) in one of the forms: args, cfg, omegaconf."""
    state, numbers = described({k: np.ascontiguousarray(v) for k, v in fairseq_state(tensors, config, head).items()})
    body = body_settings(config)
    if form == "args":
        settings = {**body, "normalize": True, "arch": "wav2vec2", "task": "audio_pretraining"}
        if head == "ForCTC":
            inner = Instance("argparse.Namespace", settings)
            settings = {"arch": "wav2vec_ctc", "normalize": True, "w2v_args": inner, "layerdrop": 0.07,
                        "final_dropout": 0.03, "mask_prob": 0.5, "apply_mask": True, "dropout": 0.02}  # fmt: skip
        top = {"args": Instance("argparse.Namespace", settings), "cfg": None}
    else:
        task = {"_name": "audio_pretraining", "normalize": True, "data": "/data"}
        cfg = {"model": {**body, "_name": "wav2vec2"}, "task": task}
        if head == "ForCTC":
            model = {"_name": "wav2vec_ctc", "w2v_args": cfg, "layerdrop": 0.07, "final_dropout": 0.03,
                     "mask_prob": 0.5, "apply_mask": True, "dropout": 0.02}  # fmt: skip
            cfg = {"model": model, "task": {**task, "_name": "audio_finetuning"}}
        top = {"args": None, "cfg": container(cfg) if form == "omegaconf" else cfg}
    enumeration = Instance("fairseq.dataclass.constants.DDP_BACKEND_CHOICES", None, ("legacy_ddp",))
    return {**top, "model": state, "extra_state": {"best": 0.5, "kind": enumeration}, **more}, numbers


__all__ = ["checkpoint", "container", "fairseq_state"]
