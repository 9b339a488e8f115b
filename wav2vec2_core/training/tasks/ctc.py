"""Speech recognition: letters by CTC, scored by word and character error rates."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from wav2vec2_core.data.checking import Labels, Row
from wav2vec2_core.data.labels import TextLabels
from wav2vec2_core.data.manifest import Utterance
from wav2vec2_core.decoding.greedy import greedy_decode
from wav2vec2_core.metrics import character_errors, normalise, word_errors
from wav2vec2_core.processing import Wav2Vec2Processor
from wav2vec2_core.training.tasks.task import OpenedModel, Scores

#: A word error rate above which learning has not begun.
_NOT_BEGUN = 0.9
#: What an evaluation counts.
_WORD_ERRORS, _WORDS, _LETTER_ERRORS, _LETTERS, _SILENT = range(5)


class CTC:
    """Learn the texts of recordings."""

    name = "ctc"

    def options(self) -> dict[str, Any]:
        """Nothing distinguishes two of these."""
        return {}

    def prepare(self, model: OpenedModel, train: Sequence[Utterance]) -> CTCJob:
        """Take the model's vocabulary.

        Raises:
            CheckpointError: the model has none.
            BackendError: jiwer, for error rates, is not installed.
        """
        word_errors("a", "a")  # raises where jiwer is not installed: now, not after the first thousand updates
        return CTCJob(model, Wav2Vec2Processor.from_source(model.source))


class CTCJob:
    """See ``Job``."""

    head, output = "ForCTC", "logits"
    labels: Labels

    def __init__(self, model: OpenedModel, processor: Wav2Vec2Processor) -> None:
        tokenizer = processor.tokenizer
        config = model.config
        if not any(name.endswith("lm_head.weight") for name in model.checkpoint.shapes):
            config = config.replace(vocab_size=max(tokenizer.get_vocab().values()) + 1)
        self.config = config.replace(
            ctc_loss_reduction="mean", ctc_zero_infinity=True, pad_token_id=tokenizer.pad_token_id
        )
        self.checkpoint, self.processor = model.checkpoint, processor
        self.feature_extractor = processor.feature_extractor
        self.labels = TextLabels(tokenizer, self.config)

    def counts(self, rows: int) -> np.ndarray:
        """Errors and lengths of words and of letters, and utterances without any text."""
        return np.zeros(5)

    def count(self, number: int, row: Row, output: np.ndarray, counts: np.ndarray) -> None:
        """Decode greedily and compare."""
        text = normalise(greedy_decode(output, self.processor.tokenizer)[0])
        words, letters = word_errors(row.text, text), character_errors(row.text, text)
        counts += [words.total, words.length, letters.total, letters.length, not text]

    def scores(self, rows: Sequence[Row], counts: np.ndarray) -> Scores:
        """Word and character error rate."""
        wer = float(counts[_WORD_ERRORS] / max(counts[_WORDS], 1))
        cer = float(counts[_LETTER_ERRORS] / max(counts[_LETTERS], 1))
        silent = counts[_SILENT] == len(rows)
        stuck = "writes nothing, it hears blanks everywhere" if silent else ""
        return Scores({"wer": wer, "cer": cer}, (wer, cer), begun=wer <= _NOT_BEGUN, stuck=stuck)

    def save(self, folder: Path) -> None:
        """Vocabulary and feature extractor."""
        self.processor.save_pretrained(folder)
