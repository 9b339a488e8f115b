"""Speech recognition: letters by CTC, scored by word and character error rates."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from wav2vec2_core.data.checking import Labels, Row
from wav2vec2_core.data.labels import TextLabels
from wav2vec2_core.data.manifest import Utterance
from wav2vec2_core.decoding.greedy import greedy_decode
from wav2vec2_core.files import read_json
from wav2vec2_core.metrics import character_errors, normalise, word_errors
from wav2vec2_core.tokenization.building import spelt
from wav2vec2_core.training.tasks.ctc_start import MODEL, TEXT, Start, choose_start
from wav2vec2_core.training.tasks.task import OpenedModel, Scores

#: A word error rate above which learning has not begun.
_NOT_BEGUN = 0.9
#: What an evaluation counts.
_WORD_ERRORS, _WORDS, _LETTER_ERRORS, _LETTERS, _SILENT = range(5)


class CTC:
    """Learn the texts of recordings."""

    name = "ctc"

    def __init__(self, *, vocabulary: str | None = None, adapter: str | None = None, case: str = "keep") -> None:
        """Say which letters are learned and what is trained.

        Args:
            vocabulary: ``"model"``: the model's own; ``"text"``: the letters of the texts; anything else: a
                ``vocab.json``; None: the model's own where it has one, otherwise the letters of the texts.
            adapter: language of an MMS adapter: it and the head alone are trained, with a vocabulary of that language.
            case: ``"keep"``, ``"lower"`` or ``"upper"``: of the texts, in training and in scoring.

        Raises:
            InputError: the case is none of these.
            CheckpointError: the file cannot be read.
        """
        spelt("", case)
        self.vocabulary, self.adapter, self.case = vocabulary, adapter, case
        self._content = None if vocabulary in (None, MODEL, TEXT) else read_json(vocabulary)

    def options(self) -> dict[str, Any]:
        """What was said, and what a vocabulary file holds."""
        given = {"vocabulary": self.vocabulary, "adapter": self.adapter, "case": self.case}
        options = {name: value for name, value in given.items() if value not in (None, "keep")}
        if self._content is not None:
            content = json.dumps(self._content, sort_keys=True).encode()
            options["vocabulary_sha256"] = hashlib.sha256(content).hexdigest()
        return options

    def prepare(self, model: OpenedModel, train: Sequence[Utterance]) -> CTCJob:
        """Choose the vocabulary and make the weights fit it: see ``ctc_start.choose_start``.

        Raises:
            CheckpointError, InputError: the model or the vocabulary cannot be used.
            BackendError: jiwer, for error rates, is not installed.
        """
        word_errors("a", "a")  # raises where jiwer is not installed: now, not after the first thousand updates
        texts = (utterance.text or "" for utterance in train)
        start = choose_start(model, texts, vocabulary=self.vocabulary, case=self.case, adapter=self.adapter)
        return CTCJob(start, self.case)


class CTCJob:
    """See ``Job``."""

    head, output = "ForCTC", "logits"
    labels: Labels

    def __init__(self, start: Start, case: str) -> None:
        self._start, self.processor = start, start.processor
        self.config = start.config.replace(ctc_loss_reduction="mean", ctc_zero_infinity=True)
        self.checkpoint, self.frozen, self.notes = start.checkpoint, start.frozen, start.notes
        self.feature_extractor = start.processor.feature_extractor
        self.labels = TextLabels(start.processor.tokenizer, self.config, case)

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
        """Vocabulary and feature extractor, and the adapter of a language by itself."""
        self._start.save(folder)
