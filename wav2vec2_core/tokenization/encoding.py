"""Converting token ids to model inputs: truncation, padding, and the masks that accompany ids."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from wav2vec2_core.batching import check_length, check_side, padding_strategy, round_up, truncation_strategy
from wav2vec2_core.errors import InputError, brief

#: ``model_max_length`` above this means "no limit" (transformers writes 1e30 for it).
NO_LIMIT = 10**20


class Ids(list[int]):
    """Ids of a text that is already encoded."""


def texts_of(text: Any, pair: Any, split_into_words: bool) -> tuple[list[tuple[Any, Any]], bool]:
    """The texts of a call as (text, second text or None), and whether they are a batch.

    Raises:
        InputError: a value is neither a string nor a list of texts, or the second texts do not match the first.
    """
    if isinstance(text, (str, Ids)):
        return [(text, pair)], False
    if not isinstance(text, (list, tuple)) or not text:
        raise InputError(f"text {brief(text)} must be a string or a list of at least one string")
    if split_into_words and not _is_nested(text):
        return [(text, pair)], False
    if pair is not None:
        if not isinstance(pair, (list, tuple)) or len(pair) != len(text):
            raise InputError(
                f"text is a batch of {len(text)}, text_pair must be one too: give one second text for each"
            )
        return list(zip(text, pair, strict=True)), True
    return [_with_pair(item, split_into_words) for item in text], True


def _with_pair(item: Any, split_into_words: bool) -> tuple[Any, Any]:
    if not isinstance(item, (list, tuple)) or (split_into_words and not _is_nested(item)):
        return item, None
    if len(item) != 2:
        raise InputError(
            f"a list of {len(item)} inside of a batch is no pair of texts: pass is_split_into_words=True for words"
        )
    return item[0], item[1]


def _is_nested(item: Any) -> bool:
    return isinstance(item, (list, tuple)) and bool(item) and isinstance(item[0], (list, tuple))


@dataclass(frozen=True)
class LengthRules:
    """Options for the length of encodings.

    padding: one of ``PADDING_STRATEGIES``; truncation: one of ``TRUNCATION_STRATEGIES``; max_length: tokens; multiple:
    padded lengths are multiples of it; padding_side, truncation_side: ``"left"`` or ``"right"``.
    """

    padding: str
    truncation: str
    max_length: int | None
    multiple: int | None
    padding_side: str
    truncation_side: str

    @classmethod
    def of(
        cls,
        padding: Any,
        truncation: Any,
        max_length: int | None,
        multiple: int | None,
        *,
        padding_side: str,
        truncation_side: str,
        limit: int,
    ) -> LengthRules:
        """Validate the arguments of a call; ``limit`` is the tokenizer's ``model_max_length``.

        Raises:
            InputError: an argument is unknown or contradicts another.
        """
        check_length("max_length", max_length)
        check_length("pad_to_multiple_of", multiple, minimum=1)
        if max_length is not None and padding is False and truncation is None:
            _warn(f"max_length={max_length} without truncation cuts longer texts: pass truncation=True to say so")
            truncation = "longest_first"
        pads, cuts = padding_strategy(padding), truncation_strategy(truncation)
        if pads == "longest" and max_length is not None and cuts == "do_not_truncate":
            _warn(f"max_length={max_length} has no effect: pass padding='max_length' or truncation=True")
        if max_length is None and (pads == "max_length" or cuts != "do_not_truncate"):
            if limit > NO_LIMIT:
                _warn("padding='max_length' and truncation do nothing here: pass max_length, the tokenizer has none")
                pads = "do_not_pad" if pads == "max_length" else pads
                cuts = "do_not_truncate"
            else:
                max_length = limit
        both = pads != "do_not_pad" and cuts != "do_not_truncate"
        if both and multiple is not None and max_length is not None and max_length % multiple:
            raise InputError(
                f"max_length={max_length} is no multiple of pad_to_multiple_of={multiple}, but texts are cut and "
                f"padded to it: use max_length={round_up(max_length, multiple)}"
            )
        return cls(pads, cuts, max_length, multiple, check_side(padding_side), truncation_side)


def truncate(
    ids: Sequence[int], pair: Sequence[int] | None, excess: int, rules: LengthRules, stride: int
) -> tuple[list[int], list[int] | None, list[int]]:
    """Cut ``excess`` tokens off a text or a pair.

    Returns:
        The two texts and the tokens cut off; for a single text these start with ``stride`` tokens that were kept. A
            text with too few tokens is returned unchanged, with a warning.
    """
    left = rules.truncation_side == "left"
    if pair is not None and rules.truncation == "longest_first":
        from_ids, from_pair = _shares(len(ids), len(pair), excess)
        return _drop(ids, from_ids, left), _drop(pair, from_pair, left), []
    second = rules.truncation == "only_second"
    target = pair if second else ids
    if target is None:
        return list(ids), None, []
    if len(target) <= excess:
        _warn(
            f"cannot cut {excess} tokens off the {'second' if second else 'first'} text, which has {len(target)}: "
            "it is left as it is, raise max_length or choose another truncation"
        )
        return list(ids), None if pair is None else list(pair), []
    window = min(len(target), stride + excess)
    overflow = list(target[:window] if left else target[-window:])
    kept = _drop(target, excess, left)
    if second:
        return list(ids), kept, overflow
    return kept, None if pair is None else list(pair), overflow


def _shares(length: int, pair_length: int, excess: int) -> tuple[int, int]:
    """Tokens to cut from each text of a pair: first the longer one down to the other's length, then both in turn."""
    first = min(abs(pair_length - length), excess)
    half = (excess - first) // 2
    if length > pair_length:
        return first + half, excess - first - half
    return half, excess - half


def _drop(ids: Sequence[int], count: int, left: bool) -> list[int]:
    return list(ids[count:] if left else ids[: max(len(ids) - count, 0)])


@dataclass(frozen=True)
class Wanted:
    """Entries to return besides ``input_ids``. stride: kept tokens to repeat in ``overflowing_tokens``."""

    attention_mask: bool = True
    token_type_ids: bool = False
    special_tokens_mask: bool = False
    overflowing_tokens: bool = False
    length: bool = False
    stride: int = 0


def encode_ids(ids: list[int], pair: list[int] | None, rules: LengthRules, wanted: Wanted) -> dict[str, Any]:
    """Encode one text, or two in a row: truncated but not padded.

    Raises:
        InputError: overflowing tokens are requested without a maximum length, or for a pair that is cut on both sides.
    """
    total = len(ids) + len(pair or [])
    cuts = rules.truncation != "do_not_truncate"
    if wanted.overflowing_tokens and (
        rules.max_length is None or (pair is not None and rules.truncation == "longest_first")
    ):
        raise InputError(
            "return_overflowing_tokens needs max_length, and for pairs truncation='only_first' or 'only_second': "
            "pass them or leave it out"
        )
    overflow: list[int] = []
    if cuts and rules.max_length and total > rules.max_length:
        ids, pair, overflow = truncate(ids, pair, total - rules.max_length, rules, wanted.stride)
    entries: dict[str, Any] = {"input_ids": ids + (pair or [])}
    if wanted.overflowing_tokens:
        entries |= {"overflowing_tokens": overflow, "num_truncated_tokens": total - (rules.max_length or 0)}
    if wanted.token_type_ids:
        entries["token_type_ids"] = [0] * len(ids) + [1] * len(pair or [])
    if wanted.special_tokens_mask:
        entries["special_tokens_mask"] = [0] * len(entries["input_ids"])
    return entries


def pad_examples(
    examples: Sequence[Mapping[str, Any]], fills: Mapping[str, int], rules: LengthRules
) -> list[dict[str, Any]]:
    """Pad every example to the length required by ``rules``; longer ones are unchanged.

    Args:
        examples: entries of each text; ``input_ids`` has (tokens,) ids.
        fills: entry -> padding value; ``attention_mask`` is created if it is listed but missing.
        rules: strategy, length, multiple and side.
    """
    length = rules.max_length or 0
    if rules.padding == "longest":
        length = max(len(example["input_ids"]) for example in examples)
    length = round_up(length, rules.multiple) if rules.padding != "do_not_pad" else 0
    return [_pad_example(example, fills, length, rules.padding_side) for example in examples]


def _pad_example(example: Mapping[str, Any], fills: Mapping[str, int], length: int, side: str) -> dict[str, Any]:
    padded = dict(example)
    tokens = len(padded["input_ids"])
    if "attention_mask" in fills:
        padded.setdefault("attention_mask", [1] * tokens)
    if length > tokens:
        for name in fills.keys() & padded.keys():
            row, filling = list(padded[name]), [fills[name]] * (length - tokens)
            padded[name] = row + filling if side == "right" else filling + row
    return padded


def _warn(message: str) -> None:
    warnings.warn(message, UserWarning, stacklevel=4)
