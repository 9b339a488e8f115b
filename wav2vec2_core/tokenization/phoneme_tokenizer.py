"""Wav2Vec2PhonemeCTCTokenizer: tokens that are phones. Phones become text; no phonemizer is needed for that."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from wav2vec2_core.errors import InputError, brief
from wav2vec2_core.tokenization import ctc_text
from wav2vec2_core.tokenization.tokenizer import Wav2Vec2CTCTokenizer


class Wav2Vec2PhonemeCTCTokenizer(Wav2Vec2CTCTokenizer):
    """Phones, of one letter or several, as labels of a CTC model; text is phones with delimiters between them.

    Args:
        vocab_file, kwargs: as of ``Wav2Vec2CTCTokenizer``, which ``phonemizer_lang`` and its like are for.
        bos_token, eos_token, unk_token, pad_token: the same.
        phone_delimiter_token: between two phones in text.
        word_delimiter_token: between two words where the vocabulary has such a token; left out of decoded text.
        do_phonemize: words become phones in transformers, by a program that is not used here; kept and saved again.

    Raises:
        CheckpointError, InputError: as ``Wav2Vec2CTCTokenizer``.
    """

    #: Each token is a word of its own in what decoders return.
    words_are_tokens = True

    def __init__(
        self,
        vocab_file: Any,
        bos_token: Any = "<s>",
        eos_token: Any = "</s>",
        unk_token: Any = "<unk>",
        pad_token: Any = "<pad>",
        phone_delimiter_token: str = " ",
        word_delimiter_token: Any = None,
        do_phonemize: bool = True,
        **kwargs: Any,
    ) -> None:
        if not isinstance(phone_delimiter_token, str) or not phone_delimiter_token:
            raise InputError(f"phone_delimiter_token={brief(phone_delimiter_token)} must be text, such as a space")
        self.phone_delimiter_token = phone_delimiter_token
        own: Mapping[str, Any] = {"phone_delimiter_token": phone_delimiter_token, "do_phonemize": do_phonemize}
        super().__init__(
            vocab_file, bos_token, eos_token, unk_token, pad_token, word_delimiter_token=word_delimiter_token,
            **{**own, **kwargs},
        )  # fmt: skip

    def tokenize(
        self, text: str, *, is_split_into_words: bool = False, split_special_tokens: bool | None = None
    ) -> list[str]:
        """Cut phones apart at the delimiters between them.

        Args:
            text: phones, as a phonemizer prints them.
            is_split_into_words, split_special_tokens: change nothing.

        Raises:
            InputError: ``text`` is not a string, or holds what is no phone of the vocabulary, such as a word.
        """
        if not isinstance(text, str):
            raise InputError(f"text {brief(text)} is a {type(text).__name__}, a string is needed")
        known = self.get_vocab()
        phones = [phone for phone in text.split(self.phone_delimiter_token) if phone.strip()]
        for phone in phones:
            if phone not in known:
                raise InputError(
                    f"{brief(phone)} is no phone of the vocabulary: give phones with {self.phone_delimiter_token!r} "
                    "between them, words are not made into phones here"
                )
        return phones

    def convert_tokens_to_string(
        self,
        tokens: Sequence[str],
        group_tokens: bool = True,
        spaces_between_special_tokens: bool = False,
        output_char_offsets: bool = False,
        output_word_offsets: bool = False,
    ) -> dict[str, Any]:
        """What ``decode`` does after ids became tokens; each phone counts as a character and as a word."""
        merged = ctc_text.characters(tokens, self.pad_token, merge_repeats=group_tokens)
        spans = [span for span in merged if span.text != self.word_delimiter_token]
        return {
            "text": self.phone_delimiter_token.join(span.text for span in spans).strip(),
            "char_offsets": [span.as_offset("char") for span in spans] if output_char_offsets else None,
            "word_offsets": [span.as_offset("word") for span in spans] if output_word_offsets else None,
        }
