"""A language model of the training texts, attached to the model that was trained on them."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Iterable
from pathlib import Path

from wav2vec2_core.attaching import attach
from wav2vec2_core.errors import InputError
from wav2vec2_core.language_model.estimation import estimate
from wav2vec2_core.tokenization import Wav2Vec2CTCTokenizer

#: Discounts of orders for which few texts yield none, those that lmplz suggests.
_FALLBACK = (0.5, 1.0, 1.5)


def attach_ngrams(texts: Iterable[str], order: int, folder: Path, tokenizer: Wav2Vec2CTCTokenizer) -> list[str]:
    """Estimate an n-gram model as ``wav2vec2 lm build`` does, and attach it as ``lm attach`` does.

    Args:
        texts: of the training data, as the model writes them.
        order: of the longest n-grams.
        folder: of the model.
        tokenizer: of the model.

    Returns:
        Notes for the user: about possible mistakes, or why the texts make no language model.

    Raises:
        OutputError: a file cannot be written.
    """
    lines = io.BytesIO("".join(f"{text}\n" for text in texts if text).encode("utf-8", "backslashreplace"))
    with tempfile.TemporaryDirectory() as temporary:
        file = Path(temporary, f"{order}-gram.bin")
        try:
            estimate([lines], file, order=order, skip_symbols=True, discount_fallback=_FALLBACK)
            return attach(file, folder, tokenizer)
        except InputError as error:
            return [f"the training texts make no language model: {error}"]
