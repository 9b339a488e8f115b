"""``wav2vec2 info``: describes a checkpoint without loading a framework."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from wav2vec2_core.checkpoint import Checkpoint, ModelSource
    from wav2vec2_core.config import Wav2Vec2Config
    from wav2vec2_core.source import FileSource


_WITH_LABELS = ("ForSequenceClassification", "ForAudioFrameClassification", "ForXVector")


def info(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="Model folder, hub id, or a file of fairseq or torchaudio.")
    ],
    offline: Annotated[bool, typer.Option("--offline", help="Use local files only, never the hub.")] = False,
) -> None:
    """Describe a checkpoint: head, sizes, parameters, vocabulary, languages."""
    from wav2vec2_core.checkpoint import open_checkpoint, open_model
    from wav2vec2_core.config import Wav2Vec2Config
    from wav2vec2_core.source import FileSource

    source = open_model(model, local_files_only=offline)
    config = Wav2Vec2Config.from_source(source)
    checkpoint = open_checkpoint(source)
    other = _other_program(source) if isinstance(source, FileSource) else []
    rows = [("model", source.name), *_weights(config, checkpoint), *_architecture(config), *_text(source), *other]
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        print(f"{name:<{width}}  {value}")


def _weights(config: Wav2Vec2Config, checkpoint: Checkpoint) -> list[tuple[str, str]]:
    from math import prod

    from wav2vec2_core.checkpoint import plan_loading, with_head_of
    from wav2vec2_core.errors import ParameterMismatchError
    from wav2vec2_core.parameters import head_of, parameter_table

    head = head_of(config.architectures, checkpoint.shapes)
    config = with_head_of(config, head, checkpoint.shapes)
    try:
        plan = plan_loading(parameter_table(config, head), checkpoint)
        verdict = "yes" if not plan.new else f"yes; not in the file: {', '.join(plan.new)}"
    except ParameterMismatchError as error:
        verdict = f"NO: {str(error).splitlines()[0]}"
    size = sum(path.stat().st_size for path in checkpoint.files)
    names = ", ".join(path.name for path in checkpoint.files)
    parameters = sum(prod(shape) for shape in checkpoint.shapes.values())
    labels = list((config.id2label or {}).values())
    classes = [("labels", f"{len(labels)}: {_shortened(labels, 20, ', ')}")] if head in _WITH_LABELS else []
    kind = ", with a layer of tanh" if head == "ForSequenceClassification" and config.classifier_head == "tanh" else ""
    return [
        ("head", f"Wav2Vec2{head}{kind}"),
        ("parameters", f"{parameters:,}"),
        ("weights", f"{names}, {size / 1e6:,.1f} MB, {', '.join(sorted(set(checkpoint.dtypes.values())))}"),
        ("complete", verdict),
        *classes,
    ]


def _architecture(config: Wav2Vec2Config) -> list[tuple[str, str]]:
    hop, field = config.inputs_to_logits_ratio, config.receptive_field
    order = "pre-norm" if config.do_stable_layer_norm else "post-norm"
    rows = [
        (
            "feature encoder",
            f"{config.num_feat_extract_layers} convolutions, width {config.conv_dim[-1]}, {config.feat_extract_norm} "
            f"norm, hop {hop} samples, receptive field {field} samples",
        ),
        (
            "transformer",
            f"{config.num_hidden_layers} layers, width {config.hidden_size}, {config.num_attention_heads} heads, "
            f"feed-forward {config.intermediate_size}, {order}",
        ),
    ]
    if config.add_adapter:
        rows.append(("conv adapter", f"{config.num_adapter_layers} layers, stride {config.adapter_stride} each"))
    if config.adapter_attn_dim is not None:
        rows.append(("language adapters", f"width {config.adapter_attn_dim} in every layer"))
    return rows


def _other_program(source: FileSource) -> list[tuple[str, str]]:
    content = source.content
    level = "normalised per utterance" if content.do_normalize else "as it is"
    rows = [("program", f"{content.program}; wav2vec2 convert makes a model folder of it"), ("input", level)]
    if content.vocabulary is not None:
        rows.append(
            ("vocabulary", f"{len(content.vocabulary)} tokens: {_shortened(list(content.vocabulary), 60, ' ')}")
        )
    if content.guessed:
        rows.append(("guessed", ", ".join(content.guessed)))
    return rows


def _text(source: ModelSource) -> list[tuple[str, str]]:
    from wav2vec2_core.feature_extraction import Wav2Vec2FeatureExtractor
    from wav2vec2_core.files import read_json
    from wav2vec2_core.tokenization import Wav2Vec2CTCTokenizer, is_nested

    rows: list[tuple[str, str]] = []
    if source.find("preprocessor_config.json", "processor_config.json") is not None:
        extractor = Wav2Vec2FeatureExtractor.from_source(source)
        level = "normalised per utterance" if extractor.do_normalize else "as it is"
        rows.append(("input", f"{extractor.sampling_rate} Hz, {level}"))
    languages: Sequence[str] = source.adapter_languages()
    vocab_file = source.find("vocab.json")
    if vocab_file is not None:
        vocabulary = read_json(vocab_file)
        chosen = {"target_lang": next(iter(vocabulary))} if is_nested(vocabulary) else {}
        tokenizer = Wav2Vec2CTCTokenizer.from_source(source, **chosen)
        tokens = [token for token, _ in sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])]
        title = f"vocabulary {tokenizer.target_lang}" if chosen else "vocabulary"
        rows.append((title, f"{len(tokens)} tokens: {_shortened(tokens, 60, ' ')}"))
        rows.append(("blank", repr(tokenizer.pad_token)))
        rows.append(("word delimiter", repr(tokenizer.word_delimiter_token)))
        languages = languages or tokenizer.languages
    if languages:
        rows.append(("languages", f"{len(languages)}: {_shortened(languages, 40, ', ')}"))
    return rows


def _shortened(items: Sequence[str], most: int, separator: str) -> str:
    return separator.join(items[:most]) + (f"{separator}... ({len(items) - most} more)" if len(items) > most else "")
