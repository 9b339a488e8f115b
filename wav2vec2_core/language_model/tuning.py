"""The weights of a language model, alpha and beta, that transcribe a development set best."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from wav2vec2_core.audio import read_audio
from wav2vec2_core.backend import InferenceModel, load_backend
from wav2vec2_core.decoding.beam_decoder import BeamSearchDecoder
from wav2vec2_core.decoding.greedy import greedy_decode
from wav2vec2_core.errors import InputError
from wav2vec2_core.language_model.folder import FOLDER, Attributes
from wav2vec2_core.manifest import Utterance, read_manifest
from wav2vec2_core.metrics import word_errors
from wav2vec2_core.processing_with_lm import Wav2Vec2ProcessorWithLM

#: Trials of the search and the ranges of both weights: wav2vec 2.0 paper, appendix B, has 128 trials of Bayesian
#: optimisation with the weight of a 4-gram within [0, 5] and the word score within [-5, 5].
TRIALS = 128
ALPHA_RANGE, BETA_RANGE = (0.0, 5.0), (-5.0, 5.0)
#: Part of the trials that is spread over the ranges; the others close in on the best one so far.
SPREAD = 0.4
#: Steps of two irrational rotations: the plane fills evenly, however many trials there are (R2 sequence).
ROTATION = np.array([0.7548776662466927, 0.5698402909980532])


@dataclass(frozen=True)
class Trial:
    """Word errors of one pair of weights. wer: errors per word of the references."""

    alpha: float
    beta: float
    errors: int
    wer: float


@dataclass(frozen=True)
class Tuning:
    """trials: fewest errors first; before: of the weights that were in use; greedy_wer: without a language model."""

    trials: list[Trial]
    before: Trial
    greedy_wer: float


def tune_model(
    model: Path,
    manifest: Path,
    *,
    trials: int = TRIALS,
    threads: int = 0,
    backend: str = "torch",
    device: str = "auto",
    save: bool = True,
    progress: Callable[[str, float], None] = lambda step, part: None,
) -> Tuning:
    """Tune the language model of a model folder on a manifest, and save the best weights in ``attrs.json``.

    threads: recordings decoded at once, 0 for one per core.

    Raises:
        CheckpointError, InputError, AudioError, BackendError: as loading, ``read_manifest``, reading audio and
            ``tune``.
    """
    processor = Wav2Vec2ProcessorWithLM.from_pretrained(model, local_files_only=True)
    utterances = [utterance for utterance in read_manifest(manifest) if utterance.text and utterance.text.strip()]
    engine = load_backend(backend).load_model(model, device=device, local_files_only=True)
    logits = []
    for number, utterance in enumerate(utterances, 1):
        logits.append(_logits(utterance, engine, processor))
        progress("recordings", number / len(utterances))
    references = [utterance.text or "" for utterance in utterances]
    done = []

    def report(trial: Trial) -> None:
        done.append(trial)
        progress("trials", len(done) / trials)

    found = tune(
        processor.decoder, logits, references, trials=trials, threads=threads or os.cpu_count() or 1, progress=report
    )
    best = found[0]
    if save:
        folder = model / FOLDER
        replace(Attributes.load(folder), alpha=best.alpha, beta=best.beta).save(folder)
    greedy = sum(
        word_errors(reference, greedy_decode(frames, processor.tokenizer)[0]).total
        for frames, reference in zip(logits, references, strict=True)
    )
    return Tuning(found, done[0], greedy / sum(len(reference.split()) for reference in references))


def _logits(utterance: Utterance, engine: InferenceModel, processor: Wav2Vec2ProcessorWithLM) -> np.ndarray:
    """(frames, vocab) of an utterance."""
    extractor = processor.feature_extractor
    samples = read_audio(utterance.path, sampling_rate=extractor.sampling_rate)
    start = round(utterance.offset * extractor.sampling_rate)
    end = None if utterance.duration is None else start + round(utterance.duration * extractor.sampling_rate)
    features = extractor(samples[start:end], sampling_rate=extractor.sampling_rate, return_tensors="np")
    return engine.logits([features["input_values"][0]])[0]


def tune(
    decoder: BeamSearchDecoder,
    logits: Sequence[np.ndarray],
    references: Sequence[str],
    *,
    trials: int = TRIALS,
    threads: int = 1,
    progress: Callable[[Trial], None] = lambda trial: None,
) -> list[Trial]:
    """Try weights of the language model; the logits are decoded anew with each pair.

    The decoder's own weights come first. Two fifths of the trials then cover ``ALPHA_RANGE`` and ``BETA_RANGE``
    evenly; each later one lies in a box around the best so far, which shrinks from half the ranges to a fiftieth. The
    same input gives the same trials.

    Args:
        logits: (frames, vocab) each. references: what was said.
        threads: decode so many recordings at once.

    Returns:
        The trials, fewest errors first; of equal ones, the earlier first.

    Raises:
        InputError: no recording, no reference words, or fewer than one trial.
        BackendError: jiwer is not installed.
    """
    if len(logits) != len(references) or not len(logits):
        raise InputError(f"{len(logits)} recordings and {len(references)} references: give one for each, at least one")
    total = sum(len(reference.split()) for reference in references)
    if total == 0:
        raise InputError("the references have no words: give transcripts of what was said")
    if trials < 1:
        raise InputError(f"trials is {trials}, 1 at least is needed")
    done: list[Trial] = []
    with ThreadPoolExecutor(threads) as pool:
        while len(done) < trials:
            alpha, beta = _next_weights(done, trials, (decoder.options.alpha, decoder.options.beta))

            def errors_of(frames: np.ndarray, said: str, alpha: float = alpha, beta: float = beta) -> int:
                best = decoder.decode_beams(frames, alpha=alpha, beta=beta, prune_history=True)[0]
                return word_errors(said, best.text).total

            errors = sum(pool.map(errors_of, logits, references))
            done.append(Trial(alpha, beta, errors, errors / total))
            progress(done[-1])
    return sorted(done, key=_errors)


def _next_weights(done: Sequence[Trial], trials: int, own: tuple[float, float]) -> tuple[float, float]:
    """alpha and beta of the next trial."""
    if not done:
        return own
    number, spread = len(done), max(1, round(trials * SPREAD))
    low, high = np.transpose([ALPHA_RANGE, BETA_RANGE])
    place = (0.5 + number * ROTATION) % 1
    if number > spread:
        best = min(done, key=_errors)
        size = (high - low) * 0.5 * 0.04 ** ((number - spread) / max(trials - spread, 1))
        centre = np.array([best.alpha, best.beta])
        low, high = np.maximum(low, centre - size / 2), np.minimum(high, centre + size / 2)
        low = np.minimum(low, high)
    alpha, beta = np.round(low + place * (high - low), 4)
    return float(alpha), float(beta)


def _errors(trial: Trial) -> int:
    return trial.errors
