"""Checkpoints of fairseq, without fairseq: their settings, their vocabulary, and writing them.

A file of ``torch.save`` with ``model`` (the tensors) and the settings as ``cfg`` (nested) or, before 2021, ``args``
(flat). A fine-tuned model keeps the settings of its pretraining in ``w2v_args``. The vocabulary lies beside it in
``dict.ltr.txt``. fairseq calls the CTC blank ``<s>`` and so gives ``<s>`` row 0 and ``<pad>`` row 1; here, as in the
released conversions, the blank is ``<pad>``, so these two names trade places and no row moves.

fairseq pads the frames of an utterance to a multiple of 2 before the transformer (``required_seq_len_multiple``), which
moves its own numbers a little; nothing of that is in a file.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wav2vec2_core.errors import CheckpointError, InputError
from wav2vec2_core.names import BODY_PREFIX
from wav2vec2_core.weight_files.arrays import ArrayLike, LazyArray
from wav2vec2_core.weight_files.dialects import FAIRSEQ, GROUP_NORM_PLACE, LAYER_NORM_PLACE
from wav2vec2_core.weight_files.inert_objects import plain
from wav2vec2_core.weight_files.torch_writing import write_torch_file

if TYPE_CHECKING:
    from wav2vec2_core.config import Wav2Vec2Config

DICTIONARY = "dict.ltr.txt"
#: Prefixes of the body and the head of a fine-tuned model; a pretrained model has no prefix.
PREFIXES = ("w2v_encoder.w2v_model.", "w2v_encoder.", "")

#: fairseq's setting -> our field. Those of the second table are the fine-tuning's where both state them.
_ARCHITECTURE = {
    "encoder_layers": "num_hidden_layers", "encoder_embed_dim": "hidden_size",
    "encoder_ffn_embed_dim": "intermediate_size", "encoder_attention_heads": "num_attention_heads",
    "activation_fn": "hidden_act", "layer_norm_first": "do_stable_layer_norm", "conv_bias": "conv_bias",
    "conv_pos": "num_conv_pos_embeddings", "conv_pos_groups": "num_conv_pos_embedding_groups",
    "logit_temp": "contrastive_logits_temperature", "num_negatives": "num_negatives",
    "encoder_layerdrop": "layerdrop", "dropout_features": "feat_quantizer_dropout",
}  # fmt: skip
_TRAINING = {
    "dropout": "hidden_dropout", "attention_dropout": "attention_dropout", "activation_dropout": "activation_dropout",
    "dropout_input": "feat_proj_dropout", "mask_prob": "mask_time_prob", "mask_length": "mask_time_length",
    "mask_channel_prob": "mask_feature_prob", "mask_channel_length": "mask_feature_length",
}  # fmt: skip
_FINE_TUNING = {"final_dropout": "final_dropout", "layerdrop": "layerdrop", "apply_mask": "apply_spec_augment"}
_NORMS = {"default": "group", "layer_norm": "layer"}
_OTHER_MODELS = ("hubert", "data2vec", "wavlm", "wav2vec_seq2seq", "unispeech")
_SPECIAL = ("<s>", "<pad>", "</s>", "<unk>")  # rows 0 to 3 of every fairseq dictionary
_LONGEST_LAYERS = 64
_LONGEST_TEXT = 1000


# ---- reading ------------------------------------------------------------------------------------------------------


def read_settings(value: Mapping[str, Any], what: str) -> tuple[dict[str, Any], bool | None]:
    """The configuration fields stated in a checkpoint's ``cfg`` or ``args``, and whether audio was normalised.

    Args:
        value: the file's content with inert objects.
        what: the file, for messages.

    Raises:
        CheckpointError: the settings belong to another kind of model or are damaged.
    """
    model, task = _sections(plain(value.get("cfg"), what) or plain(value.get("args"), what))
    kind = str(model.get("_name") or model.get("arch") or "")
    if kind.startswith(_OTHER_MODELS) or kind == "wav2vec":
        raise CheckpointError(f"{what} is a {kind} model of fairseq: convert a wav2vec 2.0, XLS-R or MMS checkpoint")
    inner, inner_task = _sections(model.get("w2v_args"))
    body = inner or model
    if str(body.get("adp_act_fn", "relu")) != "relu" and int(body.get("adp_num") or 0) > 0:
        raise CheckpointError(f"{what} has adapters with {body['adp_act_fn']!r}, only those with 'relu' are known here")
    fields: dict[str, Any] = {}
    tables = ((body, _ARCHITECTURE), (body, _TRAINING), *(((model, _TRAINING), (model, _FINE_TUNING)) if inner else ()))
    for settings, table in tables:
        fields.update({ours: settings[theirs] for theirs, ours in table.items() if settings.get(theirs) is not None})
    for name in ("do_stable_layer_norm", "conv_bias", "apply_spec_augment"):
        if name in fields:
            fields[name] = bool(fields[name])
    if body.get("extractor_mode") is not None:
        mode = str(body["extractor_mode"])
        if mode not in _NORMS:
            raise CheckpointError(f"{what} has extractor_mode {mode[:40]!r}: only {', '.join(_NORMS)} are known here")
        fields["feat_extract_norm"] = _NORMS[mode]
    if body.get("conv_feature_layers") is not None:
        layers = parse_conv_layers(str(body["conv_feature_layers"]), what)
        fields["conv_dim"], fields["conv_kernel"], fields["conv_stride"] = map(tuple, zip(*layers, strict=True))
    stated = (section.get("normalize") for section in (task, inner_task, model))
    return fields, next((value for value in stated if isinstance(value, bool)), None)


def _sections(settings: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """The settings of the model and of the task: two parts of ``cfg``, the same flat ``args`` twice, or empty."""
    if not isinstance(settings, dict):
        return {}, {}
    if isinstance(settings.get("model"), dict):
        task = settings.get("task")
        return settings["model"], task if isinstance(task, dict) else {}
    return settings, settings


def parse_conv_layers(text: str, what: str) -> list[tuple[int, int, int]]:
    """``"[(512, 10, 5)] + [(512, 3, 2)] * 4"`` -> (width, kernel, stride) of each convolution, without ``eval``.

    Raises:
        CheckpointError: the text is anything but lists of three positive integers, joined and repeated.
    """
    try:
        if len(text) > _LONGEST_TEXT:
            raise ValueError("too long")
        layers = _list(ast.parse(text.strip(), mode="eval").body)
        if not layers:
            raise ValueError("no layer")
        return layers
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise CheckpointError(
            f"{what} has conv_feature_layers {text[:80]!r}: a list such as [(512,10,5)] + [(512,3,2)] * 4 is needed"
        ) from error


def _list(node: ast.expr) -> list[tuple[int, int, int]]:
    match node:
        case ast.List(elts=items):
            found = [_triple(item) for item in items]
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            found = _list(left) + _list(right)
        case ast.BinOp(left=left, op=ast.Mult(), right=ast.Constant(value=int(times))) if times <= _LONGEST_LAYERS:
            found = _list(left) * times
        case ast.BinOp(left=ast.Constant(value=int(times)), op=ast.Mult(), right=right) if times <= _LONGEST_LAYERS:
            found = _list(right) * times
        case _:
            raise ValueError("not a list")
    if len(found) > _LONGEST_LAYERS:
        raise ValueError("too many layers")
    return found


def _triple(node: ast.expr) -> tuple[int, int, int]:
    match node:
        case ast.Tuple(elts=items) | ast.List(elts=items) if len(items) == 3:
            values = [item.value for item in items if isinstance(item, ast.Constant)]
            numbers = [value for value in values if type(value) is int and 0 < value < 1 << 20]
            if len(numbers) == 3:
                return numbers[0], numbers[1], numbers[2]
    raise ValueError("not three positive integers")


def read_dictionary(path: Path) -> dict[str, int]:
    """``dict.ltr.txt`` (``symbol count`` in each line) -> row of the head by token, with ``<pad>`` as the blank.

    Raises:
        CheckpointError: the file cannot be read or is no dictionary.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path} cannot be read as UTF-8 text ({error}): download or copy it again") from error
    symbols: list[str] = []
    for number, line in enumerate(lines, 1):
        symbol, _, count = line.removesuffix(" #fairseq:overwrite").rpartition(" ")
        if not symbol or not count.isdigit():
            raise CheckpointError(f"{path} line {number} is {line[:60]!r:.100}: 'symbol count' is needed")
        symbols.append(symbol)
    return vocabulary_of(symbols, str(path))


def vocabulary_of(symbols: list[str], what: str) -> dict[str, int]:
    """Rows of fairseq's four special symbols and of ``symbols`` after them. Raises ``CheckpointError``."""
    names = ["<pad>", "<s>", *_SPECIAL[2:], *symbols]
    vocabulary = {name: row for row, name in enumerate(names)}
    if len(vocabulary) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise CheckpointError(f"{what} has {twice!r:.100} twice: one line for each symbol is needed")
    return vocabulary


def dictionary_in(value: Mapping[str, Any], what: str) -> dict[str, int] | None:
    """The vocabulary that newer checkpoints contain in ``task_state``; None if there is none."""
    state = plain(value.get("task_state"), what)
    dictionary = state.get("target_dictionary") if isinstance(state, dict) else None
    symbols = dictionary.get("symbols") if isinstance(dictionary, dict) else None
    if not isinstance(symbols, list) or symbols[:4] != list(_SPECIAL):
        return None
    return vocabulary_of([str(symbol) for symbol in symbols[4:]], what)


# ---- writing ------------------------------------------------------------------------------------------------------


def fairseq_rows(vocabulary: Mapping[str, int], blank: str, unknown: str | None) -> tuple[list[str], list[int | None]]:
    """The order of tokens that fairseq requires: its four special symbols first.

    Args:
        vocabulary: row of our head by token.
        blank: the token that is the CTC blank.
        unknown: the token of unknown letters.

    Returns:
        The symbols of ``dict.ltr.txt``, and for each row of the new head our row, or None if we have none.

    Raises:
        InputError: a token cannot be written in a line of ``dict.ltr.txt``.
    """
    special = [vocabulary.get(blank), vocabulary.get("<s>"), vocabulary.get("</s>"), vocabulary.get(unknown or "<unk>")]
    if blank == "<s>":
        special[1] = None
    taken = {row for row in special if row is not None}
    others = sorted((row, token) for token, row in vocabulary.items() if row not in taken)
    for _, token in others:
        if not token or token != token.strip() or "\n" in token or token in _SPECIAL:
            raise InputError(f"token {token!r:.100} cannot stand in {DICTIONARY}: rename it in vocab.json")
    return [token for _, token in others], [*special, *(row for row, _ in others)]


def write_fairseq_file(
    path: Path, tensors: Mapping[str, ArrayLike], config: Wav2Vec2Config, head: str, *, do_normalize: bool
) -> None:
    """Write a checkpoint that fairseq loads, tensor by tensor, in place: callers pass a temporary path.

    Args:
        path: the file.
        tensors: by our names, the head's rows already in fairseq's order.
        config, head: of the model; ``Model``, ``ForPreTraining`` or ``ForCTC``.
        do_normalize: whether audio is normalised.

    Raises:
        InputError: fairseq's wav2vec 2.0 has no such head or option.
        OSError: the file cannot be written.
    """
    fine_tuned = head == "ForCTC"
    unused = {LAYER_NORM_PLACE if config.feat_extract_norm == "group" else GROUP_NORM_PLACE}
    model = {}
    for name, array in tensors.items():
        ours = name.removeprefix(BODY_PREFIX)
        stored = FAIRSEQ.stored(ours, unused)
        if stored is None:
            raise InputError(f"fairseq's wav2vec 2.0 has nothing like {name!r:.100}: convert to safetensors instead")
        in_head = name == ours and fine_tuned
        prefix = ("w2v_encoder." if in_head else PREFIXES[0]) if fine_tuned else ""
        model[prefix + stored] = _with_axis(array) if FAIRSEQ.has_extra_axis(ours) else array
    history = {"criterion_name": "CtcCriterion" if fine_tuned else "Wav2vecCriterion", "optimizer_name": "FairseqAdam",
               "lr_scheduler_state": {}, "num_updates": 0}  # fmt: skip
    write_torch_file(
        path,
        {
            "args": None,
            "cfg": _settings(config, head, do_normalize),
            "model": model,
            "optimizer_history": [history],
            "extra_state": {"epoch": 1, "train_iterator": {"epoch": 1, "iterations_in_epoch": 0}},
        },
    )


def _with_axis(array: ArrayLike) -> ArrayLike:
    return LazyArray((1, *array.shape), array.dtype, lambda: _values(array)[None])


def _values(array: ArrayLike) -> Any:
    return array.load() if isinstance(array, LazyArray) else array


def _settings(config: Wav2Vec2Config, head: str, do_normalize: bool) -> dict[str, Any]:
    """``cfg`` with the settings that differ between models; fairseq fills in its defaults."""

    def stated(table: Mapping[str, str]) -> dict[str, Any]:
        return {theirs: getattr(config, ours) for theirs, ours in table.items()}

    layers = zip(config.conv_dim, config.conv_kernel, config.conv_stride, strict=True)
    body = {
        "_name": "wav2vec2",
        **stated(_ARCHITECTURE),
        **stated(_TRAINING),
        "extractor_mode": next(mode for mode, norm in _NORMS.items() if norm == config.feat_extract_norm),
        "conv_feature_layers": str([tuple(layer) for layer in layers]),
        "quantize_targets": head == "ForPreTraining",
        "latent_vars": config.num_codevectors_per_group,
        "latent_groups": config.num_codevector_groups,
        "latent_dim": config.codevector_dim,
        "final_dim": config.proj_codevector_dim,
        "feature_grad_mult": 0.1,
    }
    if config.adapter_attn_dim is not None:
        body.update(layer_type="trf_adp", adp_num=1, adp_dim=config.adapter_attn_dim, adp_act_fn="relu")
    task = {"_name": "audio_pretraining", "data": ".", "normalize": do_normalize}
    if head != "ForCTC":
        return {"model": body, "task": task, "criterion": {"_name": "wav2vec"}}
    model = {
        "_name": "wav2vec_ctc",
        **stated(_TRAINING),
        **stated(_FINE_TUNING),
        "normalize": do_normalize,
        "data": ".",
        "w2v_path": "",
        "w2v_args": {"model": body, "task": task, "criterion": None, "lr_scheduler": None},
    }
    fine_tuning = {**task, "_name": "audio_finetuning", "labels": "ltr"}
    return {"model": model, "task": fine_tuning, "criterion": {"_name": "ctc"}}
