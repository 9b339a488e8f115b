"""What CTC training starts from: the vocabulary, the weights that go with it, and how the result is saved."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from wav2vec2_core.checkpoint import (
    HEAD,
    Checkpoint,
    ModelSource,
    adapter_table,
    open_checkpoint,
    open_model,
    plan_adapter,
    resize_head,
    write_adapter,
)
from wav2vec2_core.checkpoint.adapters import check_language
from wav2vec2_core.checkpoint.head_resizing import for_vocabulary
from wav2vec2_core.config import Wav2Vec2Config
from wav2vec2_core.errors import InputError, brief, listed
from wav2vec2_core.feature_extraction import Wav2Vec2FeatureExtractor
from wav2vec2_core.files import read_json
from wav2vec2_core.names import BODY_PREFIX
from wav2vec2_core.parameters import has_attention_adapters
from wav2vec2_core.processing import Wav2Vec2Processor
from wav2vec2_core.tokenization import Wav2Vec2CTCTokenizer, build_vocabulary, is_nested
from wav2vec2_core.tokenization.building import SPECIAL
from wav2vec2_core.tokenization.vocabulary import check_vocabulary
from wav2vec2_core.tokenization.vocabulary_files import read_arguments
from wav2vec2_core.training.tasks.task import OpenedModel

#: Where a vocabulary comes from, beside a file.
MODEL, TEXT = "model", "text"
#: What the vocabularies of all languages of a model have in common.
_COMMON = ("pad_token", "bos_token", "eos_token", "unk_token", "word_delimiter_token", "replace_word_delimiter_char")
#: Special tokens of a vocabulary file, as the programs of the field write them.
_WRITTEN = {
    "pad_token": ("<pad>", "[PAD]"),
    "bos_token": ("<s>", "[CLS]"),
    "eos_token": ("</s>", "[SEP]"),
    "unk_token": ("<unk>", "[UNK]"),
}


@dataclass(frozen=True)
class Start:
    """What training starts from.

    processor: with the vocabulary, saved with the model; config: of the model with the vocabulary's size and blank;
    checkpoint: the weights, with a head of that size, or without one where it is to start anew; adapter: the language
    whose adapter is trained, if only that is; notes: what to tell the user.
    """

    processor: Wav2Vec2Processor
    config: Wav2Vec2Config
    checkpoint: Checkpoint
    adapter: str | None
    notes: tuple[str, ...]

    @property
    def frozen(self) -> str:
        """What training must not change: see ``parameters.trainable_names``."""
        return "feature_encoder" if self.adapter is None else "all_but_adapters"

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write the processor, and the adapter as ``adapter.<language>.safetensors``, beside a model saved there.

        Raises:
            CheckpointError: there is no model.
            OutputError: a file cannot be written.
        """
        self.processor.save_pretrained(folder)
        if self.adapter is not None:
            saved = open_checkpoint(open_model(folder))
            write_adapter(
                folder, self.adapter, {name: saved.read(name) for name in adapter_table(self.config, "ForCTC")}
            )


def choose_start(
    model: OpenedModel,
    texts: Iterable[str],
    *,
    vocabulary: str | None = None,
    case: str = "keep",
    adapter: str | None = None,
) -> Start:
    """Choose the vocabulary and make the weights fit it. Nothing is written.

    Letters that the model's own vocabulary has keep their rows of the head. With ``adapter``, attention adapters and
    head are those of the language where the model has them, and start anew where it has not.

    Args:
        model: the files; its seed gives the first values of new rows.
        texts: to train on; read only where the vocabulary is made from them.
        vocabulary: ``"model"``: the model's own; ``"text"``: the letters of the texts; anything else: a ``vocab.json``;
            None: the model's own where it has one, otherwise the letters of the texts.
        case: of the texts: see ``tokenization.building.spelt``.
        adapter: language whose adapter and head alone are trained.

    Raises:
        CheckpointError, ConfigError: the model cannot be used.
        InputError: there is no such vocabulary, it has no blank, or the model has no attention adapters.
    """
    source, config, checkpoint = model.source, model.config, model.checkpoint
    if adapter is not None:
        check_language(adapter)
        _check_adapters(source, config)
    own, tokenizer, notes = choose_tokenizer(source, texts, vocabulary=vocabulary, case=case, adapter=adapter)
    if adapter is not None:
        config, checkpoint, note = _with_adapter(source, config, checkpoint, adapter)
        notes.append(note)
    config, checkpoint, note = _with_head(config, checkpoint, own, tokenizer, model.seed)
    processor = Wav2Vec2Processor(Wav2Vec2FeatureExtractor.from_source(source), tokenizer)
    return Start(processor, config, checkpoint, adapter, (*notes, *note))


# ---- the vocabulary ---------------------------------------------------------------------------------------------


def _own_tokenizer(source: ModelSource, language: str | None) -> Wav2Vec2CTCTokenizer | None:
    """The model's tokenizer, None where it has no vocabulary, or not one of the language."""
    path = source.find("vocab.json")
    if path is None:
        return None
    vocabulary = read_json(path)
    if not is_nested(vocabulary):
        return Wav2Vec2CTCTokenizer.from_source(source)
    if language is None and read_arguments(source, {}).get("target_lang") is None:
        raise InputError(
            f"model {source.name!r} has a vocabulary for each of {len(vocabulary)} languages: train the adapter of "
            "one with --adapter LANGUAGE"
        )
    if language is None:
        return Wav2Vec2CTCTokenizer.from_source(source)
    return Wav2Vec2CTCTokenizer.from_source(source, target_lang=language) if language in vocabulary else None


def choose_tokenizer(
    source: ModelSource, texts: Iterable[str], *, vocabulary: str | None, case: str, adapter: str | None = None
) -> tuple[Wav2Vec2CTCTokenizer | None, Wav2Vec2CTCTokenizer, list[str]]:
    """The model's own tokenizer, the one to train with, and what to say of its vocabulary.

    Arguments and errors are those of ``choose_start``.
    """
    own = _own_tokenizer(source, adapter)
    if vocabulary is None:
        vocabulary = TEXT if own is None else MODEL
    common = _common(source) if adapter is not None and source.find("vocab.json") is not None else {}
    if vocabulary == MODEL:
        if own is None:
            language = "" if adapter is None else f" of {adapter!r}"
            raise InputError(
                f"model {source.name!r} has no vocabulary{language}: use --vocabulary {TEXT} for the letters of the "
                "training texts, or name a vocab.json"
            )
        if adapter is None or own.languages:
            return own, own, []
        tokens, notes = own.get_vocab(), []
    elif vocabulary == TEXT:
        special = [common[name] for name in _COMMON[:4] if common.get(name)] if common else SPECIAL
        built = build_vocabulary(texts, case=case, special=special, delimiter=_delimiter(common))
        tokens, notes = built.tokens, [f"vocabulary: {line}" for line in built.lines()]
    else:
        tokens, notes = _read_vocabulary(vocabulary, adapter), []
    common = common or _roles(tokens)
    if common["pad_token"] not in tokens:
        raise InputError(f"vocabulary {brief(vocabulary)} has no {common['pad_token']!r:.100}, the blank: add it")
    if adapter is None:
        return own, Wav2Vec2CTCTokenizer(tokens, **common), notes
    languages = read_json(source.require("vocab.json")) if source.find("vocab.json") else {}
    nested = {**(languages if is_nested(languages) else {}), adapter: tokens}
    return own, Wav2Vec2CTCTokenizer(nested, target_lang=adapter, **common), notes


def _read_vocabulary(path: str, language: str | None) -> dict[str, int]:
    """Token -> id from a file. Raises ``CheckpointError``, ``InputError``."""
    tokens: Mapping[str, Any] = read_json(path)
    if is_nested(tokens):
        if language not in tokens:
            raise InputError(f"{path} has vocabularies of {listed(tokens)}: name one of these languages with --adapter")
        tokens = tokens[language]
    return check_vocabulary(tokens, f"{path}")


def _common(source: ModelSource) -> dict[str, Any]:
    """What the tokenizer of a model says of every language's vocabulary."""
    arguments = read_arguments(source, {})
    defaults = {role: written[0] for role, written in _WRITTEN.items()} | {"word_delimiter_token": "|"}
    found = {**defaults, **{name: arguments[name] for name in _COMMON if name in arguments}}
    return {name: None if token is None else str(token) for name, token in found.items()}


def _roles(tokens: Mapping[str, int]) -> dict[str, Any]:
    """The special tokens of a vocabulary by what they are for; the blank is the first spelling where there is none."""
    roles = {role: next((token for token in written if token in tokens), None) for role, written in _WRITTEN.items()}
    spaced = " " in tokens and "|" not in tokens
    return {**roles, "pad_token": roles["pad_token"] or "<pad>", "word_delimiter_token": None if spaced else "|"}


def _delimiter(common: Mapping[str, Any]) -> str:
    return common.get("word_delimiter_token", "|") or " "


# ---- the weights ------------------------------------------------------------------------------------------------


def _check_adapters(source: ModelSource, config: Wav2Vec2Config) -> None:
    """Raises ``InputError`` for a model without attention adapters."""
    if has_attention_adapters(config):
        return
    remedy = (
        "set adapter_attn_dim (16 in MMS) in the config.json of a copy of it"
        if config.do_stable_layer_norm
        else "they need do_stable_layer_norm=True, which this model was not trained with: use one of MMS"
    )
    raise InputError(f"--adapter trains attention adapters and model {source.name!r:.100} has none: {remedy}")


def _with_adapter(
    source: ModelSource, config: Wav2Vec2Config, checkpoint: Checkpoint, language: str
) -> tuple[Wav2Vec2Config, Checkpoint, str]:
    """The weights with the adapter and head of a language, or without any where the model has none of it."""
    prefixed = any(name.startswith(BODY_PREFIX) for name in checkpoint.shapes)
    names = {name: name if prefixed else name.removeprefix(BODY_PREFIX) for name in adapter_table(config, "ForCTC")}
    if source.find(f"adapter.{language}.safetensors", f"adapter.{language}.bin") is None:
        return config, checkpoint.changed({}, without=names.values()), f"adapter {language}: new"
    config, found, plan = plan_adapter(config, "ForCTC", source, language)
    arrays = {names[ours]: found.read(theirs) for ours, theirs in plan.sources.items()}
    return config, checkpoint.changed(arrays), f"adapter {language}: {found.files[0]}"


def _with_head(
    config: Wav2Vec2Config,
    checkpoint: Checkpoint,
    old: Wav2Vec2CTCTokenizer | None,
    new: Wav2Vec2CTCTokenizer,
    seed: int,
) -> tuple[Wav2Vec2Config, Checkpoint, list[str]]:
    """The weights with a head for the new vocabulary, or without one where nothing of it can be kept."""
    fitting = for_vocabulary(config, new)
    if old is None or not all(name in checkpoint.shapes for name in HEAD):
        return fitting, checkpoint.changed({}, without=HEAD), ["lm_head: new"]
    if old.get_vocab() == new.get_vocab() and old.pad_token_id == new.pad_token_id:
        return fitting.replace(vocab_size=config.vocab_size), checkpoint, []
    config, arrays, kept = resize_head(config, {name: checkpoint.read(name) for name in HEAD}, old, new, seed=seed)
    return config, checkpoint.changed(arrays), [f"lm_head: {len(kept)} of {config.vocab_size} tokens keep their rows"]
