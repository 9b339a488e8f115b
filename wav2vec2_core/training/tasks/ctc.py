"""Speech recognition: letters by CTC, scored by word and character error rates."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from wav2vec2_core.data.checking import Labels, Row
from wav2vec2_core.data.labels import TextLabels
from wav2vec2_core.data.manifest import Utterance
from wav2vec2_core.decoding.choice import DecoderOptions
from wav2vec2_core.decoding.greedy import greedy_decode
from wav2vec2_core.errors import InputError
from wav2vec2_core.evaluation import score, transcribe_utterances
from wav2vec2_core.files import read_json
from wav2vec2_core.language_model.kenlm_binary import MAX_ORDER
from wav2vec2_core.metrics import character_errors, normalise, word_errors
from wav2vec2_core.pipeline import Progress
from wav2vec2_core.tokenization.building import spelt
from wav2vec2_core.training.tasks.ctc_start import MODEL, TEXT, Start, choose_start
from wav2vec2_core.training.tasks.ngrams import attach_ngrams
from wav2vec2_core.training.tasks.task import Measured, OpenedModel, Scores, Tested
from wav2vec2_core.transcription import Transcriber

#: A word error rate above which learning has not begun.
_NOT_BEGUN = 0.9
#: How a model with a language model of its training texts is decoded.
WITH_NGRAMS = "with the language model"
#: What an evaluation counts.
_WORD_ERRORS, _WORDS, _LETTER_ERRORS, _LETTERS, _SILENT = range(5)


class CTC:
    """Learn the texts of recordings."""

    name = "ctc"

    def __init__(
        self,
        *,
        vocabulary: str | None = None,
        adapter: str | None = None,
        case: str = "keep",
        ngrams: int | None = None,
    ) -> None:
        """Say which letters are learned and what is trained.

        Args:
            vocabulary: ``"model"``: the model's own; ``"text"``: the letters of the texts; anything else: a
                ``vocab.json``; None: the model's own where it has one, otherwise the letters of the texts.
            adapter: language of an MMS adapter: it and the head alone are trained, with a vocabulary of that language.
            case: ``"keep"``, ``"lower"`` or ``"upper"``: of the texts, in training and in scoring.
            ngrams: order of a language model of the training texts that the result gets; None for none.

        Raises:
            InputError: the case is none of these, or the order is not possible.
            CheckpointError: the file cannot be read.
        """
        spelt("", case)
        if ngrams is not None and not 1 <= ngrams <= MAX_ORDER:
            raise InputError(f"the language model's order is {ngrams}: 1 to {MAX_ORDER} are possible")
        self.vocabulary, self.adapter, self.case, self.ngrams = vocabulary, adapter, case, ngrams
        self._content = None if vocabulary in (None, MODEL, TEXT) else read_json(vocabulary)

    def options(self) -> dict[str, Any]:
        """What was said about training, and what a vocabulary file holds."""
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
        texts = [utterance.text or "" for utterance in train]
        start = choose_start(model, texts, vocabulary=self.vocabulary, case=self.case, adapter=self.adapter)
        return CTCJob(start, self.case, texts, self.ngrams)

    def test(
        self, model: Path, rows: Sequence[Row], *, backend: str, device: str, progress: Progress | None = None
    ) -> list[Tested]:
        """Word and character error rates: greedily, and with the language model where one was asked for.

        Raises as ``Task.test``.
        """
        ways = {"greedy": "none"} if self.ngrams is None else {"greedy": "none", WITH_NGRAMS: "auto"}
        utterances = [replace(row.utterance, text=row.text) for row in rows]
        found: list[Tested] = []
        for how, lm in ways.items():
            transcriber = Transcriber(
                model, backend=backend, device=device, language=self.adapter, decoding=DecoderOptions(lm)
            )
            results = transcribe_utterances(transcriber, utterances, progress=progress)
            texts = (None if result.transcript is None else result.transcript.text for result in results)
            scored = score(zip(utterances, texts, strict=True))
            rates = {"wer": (scored.words, scored.word_interval), "cer": (scored.characters, scored.character_interval)}
            measured = {name: Measured(errors.rate or 0.0, interval) for name, (errors, interval) in rates.items()}
            found.append(Tested(how, measured, len(scored.scored), scored.failed))
        return found


class CTCJob:
    """See ``Job``."""

    head, output = "ForCTC", "logits"
    labels: Labels

    def __init__(self, start: Start, case: str, texts: Sequence[str], ngrams: int | None) -> None:
        self._start, self.processor = start, start.processor
        self._texts, self._case, self._ngrams = texts, case, ngrams
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
        ranking = min(wer, _NOT_BEGUN), cer  # while words are all wrong, letters show what is learned
        return Scores({"wer": wer, "cer": cer}, ranking, begun=wer <= _NOT_BEGUN, stuck=stuck)

    def save(self, folder: Path) -> list[str]:
        """Vocabulary, feature extractor, the adapter of a language by itself, and the language model."""
        self._start.save(folder)
        if self._ngrams is None:
            return []
        texts = (spelt(text, self._case) for text in self._texts)
        return attach_ngrams(texts, self._ngrams, folder, self.processor.tokenizer)
