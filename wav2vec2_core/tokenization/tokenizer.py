"""Wav2Vec2CTCTokenizer: text to labels for CTC, and CTC tokens back to text. Behaves as transformers 4.57's."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, Self

from wav2vec2_core.batching import Batch, as_numpy, check_length, framework_of, gather
from wav2vec2_core.errors import InputError, brief
from wav2vec2_core.files import check_file_name, make_folder, write_json
from wav2vec2_core.outputs import ModelOutput
from wav2vec2_core.pretrained import Pretrained
from wav2vec2_core.source import ModelSource
from wav2vec2_core.tokenization import ctc_text
from wav2vec2_core.tokenization.added_tokens import AddedToken
from wav2vec2_core.tokenization.building import build_vocabulary
from wav2vec2_core.tokenization.encoding import Ids, LengthRules, Wanted, encode_ids, pad_examples, texts_of
from wav2vec2_core.tokenization.other_calls import OtherCalls, check_verbosity
from wav2vec2_core.tokenization.vocabulary import Vocabulary
from wav2vec2_core.tokenization.vocabulary_files import class_in_files, read_arguments, write_files

__all__ = ["AddedToken", "Wav2Vec2CTCTokenizer", "Wav2Vec2CTCTokenizerOutput"]


class Wav2Vec2CTCTokenizerOutput(ModelOutput):
    """Of ``decode`` and ``batch_decode`` with offsets; of a batch every field is a list.

    text: the transcript; char_offsets: ``{"char", "start_offset", "end_offset"}`` for each character;
    word_offsets: ``{"word", "start_offset", "end_offset"}`` for each word. Offsets are frames of the logits, the end
    exclusive.
    """

    text: Any
    char_offsets: Any
    word_offsets: Any


class Wav2Vec2CTCTokenizer(OtherCalls, Vocabulary, Pretrained):
    """Characters (and longer tokens of the vocabulary) as labels of a CTC model.

    Args:
        vocab_file: vocab.json, token -> id, or language -> (token -> id) as MMS models have it; or this itself.
        bos_token, eos_token, unk_token: special tokens; one that is not in the vocabulary is added at its end.
        pad_token: the CTC blank; where it is not in the vocabulary, it is added, with a warning. ``None``: no blank.
        word_delimiter_token: stands for the space; ``None``: spaces stay spaces.
        replace_word_delimiter_char: what it becomes in decoded text.
        do_lower_case: the vocabulary is upper case and text is lower case.
        target_lang: language of a nested vocabulary.
        kwargs: ``model_max_length``, ``padding_side``, ``truncation_side``, ``clean_up_tokenization_spaces``,
            ``split_special_tokens``, ``sep_token``, ``cls_token``, ``mask_token``, ``additional_special_tokens``,
            ``added_tokens_decoder``. Anything else is kept and saved again.

    Raises:
        CheckpointError: vocab_file is missing or no JSON object.
        InputError: the vocabulary is not token -> distinct id, or does not know ``target_lang``.
    """

    #: Whether each token is a word of its own in what decoders return.
    words_are_tokens = False
    vocab_files_names = {"vocab_file": "vocab.json"}  # noqa: RUF012  (as transformers' tokenizers have it)
    model_input_names = ["input_ids", "attention_mask"]  # noqa: RUF012

    # ---- text to tokens -----------------------------------------------------------------------------------------

    def tokenize(
        self, text: str, *, is_split_into_words: bool = False, split_special_tokens: bool | None = None
    ) -> list[str]:
        """Cut text into tokens: added tokens whole, the rest by character, spaces as word delimiters.

        Args:
            text: what to cut.
            is_split_into_words: ``text`` is a word, put a space before it.
            split_special_tokens: cut added tokens by character too; the tokenizer's own setting by default.

        Raises:
            InputError: ``text`` is not a string.
        """
        if not isinstance(text, str):
            raise InputError(f"text {brief(text)} is a {type(text).__name__}, a string is needed")
        text = f" {text}" if is_split_into_words else text
        if self.do_lower_case:
            text = self._lower(text)
        split_all = self.split_special_tokens if split_special_tokens is None else split_special_tokens
        tokens: list[str] = []
        for piece in [text] if split_all else self._added.pieces(text):
            tokens += [piece] if not split_all and piece in self._added.ids else self._characters(piece)
        return tokens

    def _characters(self, text: str) -> list[str]:
        text = text.upper() if self.do_lower_case else text
        return list(text.replace(" ", " " if self.word_delimiter_token is None else self.word_delimiter_token))

    def _lower(self, text: str) -> str:
        """Lower-case every character outside of special tokens and of those looked for after lower-casing."""
        kept = [*self.all_special_tokens]
        kept += [token.content for token in self._added.by_id.values() if not token.special and token.normalized]
        if not kept:
            return "".join(character.lower() for character in text)
        parts = re.split(f"({'|'.join(map(re.escape, kept))})", text)
        # Character by character: the lower case of a letter must not depend on its neighbours (final sigma).
        lowered = ["".join(character.lower() for character in part) for part in parts[::2]]
        parts[::2] = lowered
        return "".join(parts)

    # ---- text to model inputs -----------------------------------------------------------------------------------

    def __call__(
        self,
        text: Any = None,
        text_pair: Any = None,
        text_target: Any = None,
        text_pair_target: Any = None,
        add_special_tokens: bool = True,
        padding: bool | str = False,
        truncation: bool | str | None = None,
        max_length: int | None = None,
        stride: int = 0,
        is_split_into_words: bool = False,
        pad_to_multiple_of: int | None = None,
        padding_side: str | None = None,
        return_tensors: str | None = None,
        return_token_type_ids: bool | None = None,
        return_attention_mask: bool | None = None,
        return_overflowing_tokens: bool = False,
        return_special_tokens_mask: bool = False,
        return_length: bool = False,
        split_special_tokens: bool | None = None,
        return_offsets_mapping: bool = False,
        verbose: bool = True,
    ) -> Batch:
        """Labels of one text or of a batch; the tokenizer adds no special tokens around them.

        Args:
            text: a string, a list of strings, or with ``is_split_into_words`` a list of words or a list of such lists.
            text_pair: a second text to append, of the same kind.
            text_target, text_pair_target: the same as ``text``; beside ``text`` their ids become ``labels``.
            add_special_tokens: changes nothing but the special tokens mask; CTC labels have none.
            padding: ``True`` or ``"longest"``, ``"max_length"``, ``False`` or ``"do_not_pad"``.
            truncation: ``True`` or ``"longest_first"``, ``"only_first"``, ``"only_second"``, ``False``.
            max_length: tokens; by default the tokenizer's ``model_max_length``.
            stride: tokens kept that ``overflowing_tokens`` repeats.
            is_split_into_words: every word gets a word delimiter before it.
            pad_to_multiple_of: padded lengths are multiples of this.
            padding_side: ``"left"`` or ``"right"``; by default the tokenizer's.
            return_tensors: ``"np"``, ``"pt"``, ``"tf"``, ``"jax"``; lists by default.
            return_token_type_ids: 0 for the first text, 1 for the second.
            return_attention_mask: 1 for tokens, 0 for padding; by default as ``model_input_names`` says.
            return_overflowing_tokens: tokens cut off and ``num_truncated_tokens``; needs a maximum length.
            return_special_tokens_mask: 1 for padding.
            return_length: tokens of each text before batch padding.
            split_special_tokens: as in ``tokenize``.
            return_offsets_mapping: refused; places of characters come with ``decode``.
            verbose: changes nothing.

        Returns:
            ``input_ids`` and what was asked for, each (tokens,) for one text and (batch, tokens) for a batch; tensors
            always have the batch dimension.

        Raises:
            InputError: ``text`` is no text, a character has no id, or options contradict each other.
        """
        check_verbosity(verbose, return_offsets_mapping)
        if text is None and text_target is None:
            raise InputError("neither text nor text_target is given: pass one of them")
        if return_token_type_ids and not add_special_tokens:
            raise InputError("return_token_type_ids=True contradicts add_special_tokens=False: leave one of them out")
        rules = self._rules(padding, truncation, max_length, pad_to_multiple_of, padding_side)
        wanted = Wanted(
            attention_mask=self._wanted("attention_mask", return_attention_mask),
            token_type_ids=self._wanted("token_type_ids", return_token_type_ids),
            special_tokens_mask=return_special_tokens_mask,
            overflowing_tokens=return_overflowing_tokens,
            length=return_length,
            stride=check_length("stride", stride) or 0,
        )
        split = {"is_split_into_words": is_split_into_words, "split_special_tokens": split_special_tokens}
        if text is None:
            return self._encode(text_target, text_pair_target, split, rules, wanted, return_tensors)
        batch = self._encode(text, text_pair, split, rules, wanted, return_tensors)
        if text_target is not None:
            target = self._encode(text_target, text_pair_target, split, rules, wanted, return_tensors)
            batch["labels"] = target["input_ids"]
        return batch

    def encode(self, text: Any, text_pair: Any = None, **options: Any) -> Any:
        """The ids of one text, as ``__call__`` with the same options gives them.

        Args:
            text: a string, a list of tokens, a list of ids, or with ``is_split_into_words`` a list of words.
            text_pair: a second one.
            options: those of ``__call__``.

        Returns:
            A list of ids; with ``return_tensors`` a tensor (1, tokens).
        """
        words = options.get("is_split_into_words", False)
        split = options.get("split_special_tokens")
        ids = [
            part if part is None else Ids(self._ids(part, is_split_into_words=words, split_special_tokens=split))
            for part in (text, text_pair)
        ]
        return self(text=ids[0], text_pair=ids[1], **options)["input_ids"]

    def pad(
        self,
        encoded_inputs: Any,
        padding: bool | str = True,
        max_length: int | None = None,
        pad_to_multiple_of: int | None = None,
        padding_side: str | None = None,
        return_attention_mask: bool | None = None,
        return_tensors: str | None = None,
        verbose: bool = True,
    ) -> Batch:
        """Pad encodings: ids, masks and token types; other entries pass through.

        Args:
            encoded_inputs: a mapping or a list of mappings with ``input_ids``, of lists, arrays or tensors.
            padding, max_length, pad_to_multiple_of, padding_side, return_attention_mask: as in ``__call__``.
            return_tensors: as in ``__call__``; by default tensors come back as the kind they were.
            verbose: changes nothing.

        Raises:
            InputError: there are no ``input_ids``, entries differ in batch size, or the tokenizer has no pad token.
        """
        entries = gather(encoded_inputs)
        rows = entries.get("input_ids")
        if "input_ids" not in entries:
            raise InputError(f"the encodings to pad have no 'input_ids', only {list(entries)}: tokenize the text first")
        with_mask = self._wanted("attention_mask", return_attention_mask)
        if rows is None or len(rows) == 0:
            return Batch({**entries, "attention_mask": []} if return_attention_mask else entries)
        first = next((row[0] for row in rows if isinstance(row, (list, tuple)) and len(row)), rows[0])
        return_tensors = return_tensors or framework_of(first)
        entries = {name: _as_lists(value) for name, value in entries.items()}
        rows = entries["input_ids"]
        rules = self._rules(padding, None, max_length, pad_to_multiple_of, padding_side)
        if not isinstance(rows[0], list):
            return Batch(pad_examples([entries], self._fills(with_mask), rules)[0]).convert_to_tensors(return_tensors)
        for name, value in entries.items():
            if not isinstance(value, list) or len(value) != len(rows):
                raise InputError(
                    f"entry {name!r:.100} does not have one row for each of the {len(rows)} rows of 'input_ids'"
                )
        examples = [{name: value[i] for name, value in entries.items()} for i in range(len(rows))]
        return Batch(gather(pad_examples(examples, self._fills(with_mask), rules))).convert_to_tensors(return_tensors)

    def get_special_tokens_mask(
        self,
        token_ids_0: Sequence[int],
        token_ids_1: Sequence[int] | None = None,
        already_has_special_tokens: bool = False,
    ) -> list[int]:
        """1 for the special tokens that encoding adds, which is none; with ``already_has_special_tokens`` for all."""
        if not already_has_special_tokens:
            return [0] * (len(token_ids_0) + len(token_ids_1 or []))
        if token_ids_1 is not None:
            raise InputError("already_has_special_tokens=True takes one list of ids: join the two or leave it out")
        special = set(self.all_special_ids)
        return [int(index in special) for index in token_ids_0]

    def _wanted(self, name: str, asked: bool | None) -> bool:
        return name in self.model_input_names if asked is None else asked

    def _rules(
        self, padding: Any, truncation: Any, max_length: int | None, multiple: int | None, side: str | None
    ) -> LengthRules:
        rules = LengthRules.of(
            padding,
            truncation,
            max_length,
            multiple,
            padding_side=self.padding_side if side is None else side,
            truncation_side=self.truncation_side,
            limit=self.model_max_length,
        )
        if rules.padding != "do_not_pad" and self.pad_token is None:
            raise InputError("padding needs a pad token and the tokenizer has none: set tokenizer.pad_token")
        return rules

    def _fills(self, with_mask: bool) -> dict[str, Any]:
        fills = {"input_ids": self.pad_token_id, "token_type_ids": 0, "special_tokens_mask": 1}
        return {**fills, "attention_mask": 0} if with_mask else fills

    def _encode(
        self, text: Any, pair: Any, split: dict[str, Any], rules: LengthRules, wanted: Wanted, tensors: Any
    ) -> Batch:
        items, batched = texts_of(text, pair, split["is_split_into_words"])
        examples = []
        for first, second in items:
            ids = self._ids(first, **split)
            examples.append(encode_ids(ids, None if second is None else self._ids(second, **split), rules, wanted))
        if wanted.length and batched:
            examples = [{**example, "length": len(example["input_ids"])} for example in examples]
        if batched or examples[0]["input_ids"]:  # a single empty text is not padded, as in transformers
            examples = pad_examples(examples, self._fills(wanted.attention_mask), rules)
        elif wanted.attention_mask:
            examples[0]["attention_mask"] = []
        if wanted.length and not batched:
            examples[0]["length"] = len(examples[0]["input_ids"])
        return Batch(gather(examples) if batched or tensors else examples[0]).convert_to_tensors(tensors)

    def _ids(self, text: Any, *, is_split_into_words: bool, split_special_tokens: bool | None) -> list[int]:
        if isinstance(text, Ids):
            return list(text)
        if isinstance(text, str):
            tokens = self.tokenize(text, split_special_tokens=split_special_tokens)
        elif not isinstance(text, (list, tuple)):
            raise InputError(
                f"text {brief(text)} is a {type(text).__name__}, text must be a string or a list of strings"
            )
        elif is_split_into_words:
            tokens = [
                token
                for word in text
                for token in self.tokenize(word, is_split_into_words=True, split_special_tokens=split_special_tokens)
            ]
        elif text and all(isinstance(index, int) for index in text):
            return list(text)
        else:
            tokens = list(text)
        ids = self.convert_tokens_to_ids(tokens)
        unknown = [token for token, index in zip(tokens, ids, strict=True) if index is None]
        if unknown:
            raise InputError(
                f"{unknown[0]!r:.100} is not in the vocabulary and unk_token={self.unk_token!r:.100} is not either: "
                "remove it from the text or add an unknown token to the vocabulary"
            )
        return ids

    # ---- tokens to text -----------------------------------------------------------------------------------------

    def decode(
        self,
        token_ids: Any,
        skip_special_tokens: bool = False,
        clean_up_tokenization_spaces: bool | None = None,
        output_char_offsets: bool = False,
        output_word_offsets: bool = False,
        group_tokens: bool = True,
        spaces_between_special_tokens: bool = False,
    ) -> Any:
        """Text of the CTC tokens of one utterance, (frames,): repeats merged, blanks (``pad_token``) removed.

        Args:
            token_ids: list, array or tensor of ids, for example ``logits.argmax(-1)``; an id outside of the vocabulary
                reads as ``unk_token``.
            skip_special_tokens: leave special tokens out before repeats are merged and frames are counted. The blank is
                one of them, so letters that only a blank separates become one: for labels, not for predictions.
            clean_up_tokenization_spaces: remove spaces before punctuation; by default the tokenizer's setting.
            output_char_offsets, output_word_offsets: return the frames of characters, of words.
            group_tokens: merge repeats. Pass ``False`` for labels, which spell double letters.
            spaces_between_special_tokens: join the tokens with spaces.

        Returns:
            The text, or with offsets a ``Wav2Vec2CTCTokenizerOutput``.

        Raises:
            InputError: ``token_ids`` is not one row of integers, or holds an unknown id and there is no unknown token.
        """
        ids = _id_row(token_ids)
        tokens = self.convert_ids_to_tokens(ids)
        unknown = [index for index, token in zip(ids, tokens, strict=True) if token is None]
        if unknown:
            raise InputError(
                f"id {unknown[0]} is outside of the vocabulary of {len(self)} tokens, which has no "
                "unknown token: decode with the tokenizer of the model"
            )
        if skip_special_tokens:
            special = set(self.all_special_tokens) - {self.pad_token}  # an unknown id reads as unk_token
            kept = self.convert_ids_to_tokens(ids, skip_special_tokens=True)
            tokens = [token for token in kept if token not in special]
        decoded = self.convert_tokens_to_string(
            tokens, group_tokens, spaces_between_special_tokens, output_char_offsets, output_word_offsets
        )
        clean = (
            self.clean_up_tokenization_spaces if clean_up_tokenization_spaces is None else clean_up_tokenization_spaces
        )
        if clean:
            decoded["text"] = ctc_text.clean_up(decoded["text"])
        with_offsets = output_char_offsets or output_word_offsets
        return Wav2Vec2CTCTokenizerOutput(decoded) if with_offsets else decoded["text"]

    def batch_decode(self, sequences: Any, *args: Any, **options: Any) -> Any:
        """``decode`` of every row of a batch, with its options.

        Returns:
            A list of texts, or with offsets a ``Wav2Vec2CTCTokenizerOutput`` of lists.
        """
        decoded = [self.decode(row, *args, **options) for row in sequences]
        if not decoded or isinstance(decoded[0], str):
            return decoded
        rows = {name: [getattr(output, name) for output in decoded] for name in Wav2Vec2CTCTokenizerOutput.field_names}
        return Wav2Vec2CTCTokenizerOutput({name: row for name, row in rows.items() if None not in row})

    def convert_tokens_to_string(
        self,
        tokens: Sequence[str],
        group_tokens: bool = True,
        spaces_between_special_tokens: bool = False,
        output_char_offsets: bool = False,
        output_word_offsets: bool = False,
    ) -> dict[str, Any]:
        """What ``decode`` does after ids became tokens: ``text``, ``char_offsets`` and ``word_offsets``."""
        if not tokens:
            return {"text": "", "char_offsets": [], "word_offsets": []}
        space = self.replace_word_delimiter_char
        spans = [
            replace(span, text=space) if span.text == self.word_delimiter_token else span
            for span in ctc_text.characters(tokens, self.pad_token, merge_repeats=group_tokens)
        ]
        text = (" " if spaces_between_special_tokens else "").join(span.text for span in spans).strip()
        words = [word.as_offset("word") for word in ctc_text.words(spans, space)] if output_word_offsets else None
        return {
            "text": text.lower() if self.do_lower_case else text,
            "char_offsets": [span.as_offset("char") for span in spans] if output_char_offsets else None,
            "word_offsets": words,
        }

    # ---- making and files ---------------------------------------------------------------------------------------

    @classmethod
    def from_texts(cls, texts: Iterable[str], *, case: str = "keep", **arguments: Any) -> Self:
        """A tokenizer with a vocabulary of the letters of texts: see ``building.build_vocabulary``, which also reports.

        Args:
            texts: of the recordings to train on.
            case: ``"lower"`` or ``"upper"`` where texts are put into one case, which the tokenizer does not do.
            arguments: others of the constructor.

        Raises:
            InputError: the texts have no letter, one is no text, or ``case`` is unknown.
        """
        return cls(build_vocabulary(texts, case=case).tokens, **arguments)

    @classmethod
    def from_source(cls, source: ModelSource, **overrides: Any) -> Self:
        """Read the files of a model that is already open; ``overrides`` are arguments of the constructor.

        The files of a phoneme model make a ``Wav2Vec2PhonemeCTCTokenizer``.
        """
        kinds = {kind.__name__: kind for kind in cls.__subclasses__()}
        kind = kinds.get(str(class_in_files(source)), cls)
        return kind(**read_arguments(source, overrides))

    def save_pretrained(
        self,
        save_directory: str | os.PathLike[str],
        *,
        processor_class: str | None = None,
        filename_prefix: str | None = None,
        **options: Any,
    ) -> tuple[str, ...]:
        """Write the files that transformers 4 and 5 read into a folder (created where missing); returns their paths.

        ``filename_prefix`` is refused: no one reads files of other names. ``options``: see ``Pretrained``.

        Raises:
            InputError: an option is unknown or refused.
            OutputError: the folder or a file cannot be written.
        """
        if filename_prefix is not None:
            raise InputError(f"filename_prefix={filename_prefix!r:.100} is not supported here: name another folder")
        with self.saving(save_directory, options):
            return write_files(self, save_directory, processor_class)

    def save_vocabulary(self, save_directory: str | os.PathLike[str], filename_prefix: str | None = None) -> tuple[str]:
        """Write ``vocab.json``, with all languages of a nested vocabulary; returns its path. Raises ``OutputError``."""
        name = (
            "vocab.json" if filename_prefix is None else check_file_name(f"{filename_prefix}-vocab.json", "file name")
        )
        path = make_folder(save_directory) / name
        write_json(path, self.vocab)
        return (str(path),)


def _as_lists(value: Any) -> Any:
    """Arrays and tensors, or lists of them, as lists of numbers."""
    if isinstance(value, (list, tuple)):
        return [_as_lists(item) for item in value]
    return value if framework_of(value) is None else as_numpy(value).tolist()


def _id_row(token_ids: Any) -> list[int]:
    """Ids as a list; a single id is a row of one. Raises ``InputError``."""
    row = _as_lists(token_ids)
    row = row if isinstance(row, list) else [row]
    for index in row:
        if isinstance(index, list):
            raise InputError("token ids have more than one row: use batch_decode, of logits take argmax(-1) first")
        if isinstance(index, bool) or not isinstance(index, (int, float)) or index != int(index):
            raise InputError(f"token id {brief(index)} is not an integer: pass ids, of logits take argmax(-1) first")
    return [int(index) for index in row]
