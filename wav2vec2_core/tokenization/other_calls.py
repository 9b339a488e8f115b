"""Calls of a tokenizer that programs written for transformers make; each is one of ours under another name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from wav2vec2_core.batching import Batch
from wav2vec2_core.errors import InputError
from wav2vec2_core.tokenization import ctc_text
from wav2vec2_core.tokenization.encoding import Ids
from wav2vec2_core.tokenization.vocabulary import ADDITIONAL, SPECIAL_TOKENS


class OtherCalls:
    """Mixed into ``Wav2Vec2CTCTokenizer``."""

    #: There is one tokenizer, in Python.
    is_fast = False
    pad_token_type_id = 0
    SPECIAL_TOKENS_ATTRIBUTES = (*SPECIAL_TOKENS, ADDITIONAL)
    name_or_path = ""
    model_max_length: int
    init_kwargs: dict[str, Any]

    def __call__(self, *args: Any, **options: Any) -> Batch:
        """See ``Wav2Vec2CTCTokenizer``."""
        raise NotImplementedError

    def encode_plus(self, text: Any, text_pair: Any = None, **options: Any) -> Batch:
        """``__call__`` of one text, a list of tokens or a list of ids; options as there."""
        parts = [part if part is None else self._one(part, **options) for part in (text, text_pair)]
        return self(*parts, **options)

    def batch_encode_plus(self, batch_text_or_text_pairs: Sequence[Any], **options: Any) -> Batch:
        """``__call__`` of a list of texts, or of pairs of texts; options as there."""
        return self(list(batch_text_or_text_pairs), **options)

    def prepare_for_model(self, ids: Sequence[int], pair_ids: Sequence[int] | None = None, **options: Any) -> Batch:
        """``__call__`` of ids, cut and padded; options as there."""
        return self(Ids(ids), None if pair_ids is None else Ids(pair_ids), **options)

    def _one(self, text: Any, *, is_split_into_words: bool = False, **options: Any) -> Ids:
        split = options.get("split_special_tokens")
        return Ids(self._ids(text, is_split_into_words=is_split_into_words, split_special_tokens=split))

    def _ids(self, text: Any, *, is_split_into_words: bool, split_special_tokens: bool | None) -> list[int]:
        raise NotImplementedError

    def build_inputs_with_special_tokens(
        self, token_ids_0: Sequence[int], token_ids_1: Sequence[int] | None = None
    ) -> list[int]:
        """The ids, of both texts in a row: CTC labels have no special tokens around them."""
        return [*token_ids_0, *(token_ids_1 or ())]

    def create_token_type_ids_from_sequences(
        self, token_ids_0: Sequence[int], token_ids_1: Sequence[int] | None = None
    ) -> list[int]:
        """0 for each token of the first text, 1 for each of the second."""
        return [0] * len(token_ids_0) + [1] * len(token_ids_1 or ())

    def num_special_tokens_to_add(self, pair: bool = False) -> int:
        """None: CTC labels have no special tokens around them."""
        return 0

    @property
    def max_len_single_sentence(self) -> int:
        """Tokens of a text of ``model_max_length``."""
        return self.model_max_length

    @property
    def max_len_sentences_pair(self) -> int:
        """Tokens of two texts of ``model_max_length``."""
        return self.model_max_length

    @staticmethod
    def clean_up_tokenization(out_string: str) -> str:
        """Text without the spaces before punctuation and English clitics."""
        return ctc_text.clean_up(out_string)

    @staticmethod
    def _get_word_offsets(offsets: Sequence[Mapping[str, Any]], word_delimiter_char: str = " ") -> list[dict[str, Any]]:
        """Offsets of words from those of characters, which transformers' pipeline asks for."""
        spans = [ctc_text.Span(one["char"], one["start_offset"], one["end_offset"]) for one in offsets]
        return [word.as_offset("word") for word in ctc_text.words(spans, word_delimiter_char)]

    @contextmanager
    def as_target_tokenizer(self) -> Iterator[None]:
        """Nothing: inputs and labels are encoded alike."""
        yield

    @property
    def _processor_class(self) -> str | None:
        return self.init_kwargs.get("processor_class")

    def _set_processor_class(self, processor_class: str | None) -> None:
        self.init_kwargs["processor_class"] = processor_class


def check_verbosity(verbose: bool, return_offsets_mapping: bool) -> None:
    """Two arguments of a call: the first changes nothing, the second is not there. Raises ``InputError``."""
    if return_offsets_mapping:
        raise InputError("return_offsets_mapping=True is not supported: decode with output_char_offsets instead")
