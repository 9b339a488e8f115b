"""The losses in float64, from their definitions: CTC, pretraining, cross entropy, additive-margin softmax."""

from __future__ import annotations

import numpy as np

from conformance.autodiff import Tensor, concatenate, custom, exp, log, sqrt, where
from conformance.reference_layers import log_softmax

# ---- CTC (Graves et al. 2006) -----------------------------------------------------------------------------------


def ctc_loss(
    logits: Tensor, lengths: np.ndarray, labels: np.ndarray, *, blank: int, reduction: str, zero_infinity: bool
) -> Tensor:
    """Minus the log probability of all paths that spell the labels.

    Args:
        logits: (batch, frames, vocab), before the softmax.
        lengths: (batch,) valid frames.
        labels: (batch, letters); negative entries are padding and may stand anywhere.
        blank: number of the blank.
        reduction: ``"sum"``; ``"mean"``, over the batch of losses divided by their label lengths (1 where there are
            no labels); ``"none"``.
        zero_infinity: count an utterance that has no path as 0, with gradient 0.

    Returns:
        () or, for ``"none"``, (batch,).
    """
    log_probs = log_softmax(logits)
    rows, letters = [], []
    for row in range(len(labels)):
        spelled = labels[row][labels[row] >= 0]
        letters.append(len(spelled))
        rows.append(_ctc_row(log_probs, row, int(lengths[row]), spelled, blank, zero_infinity).reshape(1))
    losses = concatenate(rows, 0)
    if reduction == "none":
        return losses
    if reduction == "sum":
        return losses.sum()
    return (losses / np.maximum(letters, 1)).mean()


def _ctc_row(log_probs: Tensor, row: int, frames: int, letters: np.ndarray, blank: int, zero_infinity: bool) -> Tensor:
    """Loss () of one utterance. Its gradient by a log probability is minus the share of paths that use it."""
    states = np.full(2 * len(letters) + 1, blank)  # blank, letter, blank, letter, ..., blank
    states[1::2] = letters
    scores = log_probs.data[row, :frames][:, states]  # (frames, states)
    forward = _path_sums(scores, states, blank)
    backward = _path_sums(scores[::-1, ::-1], states[::-1], blank)[::-1, ::-1]
    total = np.logaddexp.reduce(forward[-1, -2:]) if frames > 0 else -np.inf
    if np.isneginf(total):
        value = 0.0 if zero_infinity else np.inf
        return custom(np.array(value), log_probs, lambda g: np.zeros(log_probs.shape) if zero_infinity else g * np.nan)

    def back(g: np.ndarray) -> np.ndarray:
        shares = np.exp(forward + backward - scores - total)  # (frames, states), each row adds up to 1
        whole = np.zeros(log_probs.shape)
        np.add.at(whole[row, :frames].T, states, -shares.T)
        return g * whole

    return custom(np.array(-total), log_probs, back)


def _path_sums(scores: np.ndarray, states: np.ndarray, blank: int) -> np.ndarray:
    """Log of the sum over all path beginnings: (frames, states) scores -> (frames, states) that end there.

    A path starts in one of the first two states; it stays, moves on by one, or by two over a blank that stands between
    different letters.
    """
    sums = np.full(scores.shape, -np.inf)
    sums[:1, :2] = scores[:1, :2]
    skips = np.zeros(len(states), bool)
    skips[2:] = (states[2:] != blank) & (states[2:] != states[:-2])
    for frame in range(1, len(scores)):
        before = sums[frame - 1]
        moved, skipped = np.full_like(before, -np.inf), np.full_like(before, -np.inf)
        moved[1:] = before[:-1]
        skipped[2:] = np.where(skips[2:], before[:-2], -np.inf)
        sums[frame] = np.logaddexp(np.logaddexp(before, moved), skipped) + scores[frame]
    return sums


# ---- pretraining (Baevski et al. 2020, section 3.2) -------------------------------------------------------------


def contrastive_logits(predicted: Tensor, target: Tensor, negatives: Tensor, temperature: float) -> Tensor:
    """Cosines with the true quantised vector and the distractors, by kappa: (batch, frames, 1 + negatives), the true
    one first. Arguments as in ``contrastive_loss``.
    """
    candidates = concatenate([target.reshape(*target.shape[:2], 1, -1), negatives], 2)
    own = unit(predicted, 1e-8).reshape(*predicted.shape[:2], 1, -1)
    return (own * unit(candidates, 1e-8)).sum(-1) / temperature


def contrastive_loss(
    predicted: Tensor, target: Tensor, negatives: Tensor, same: np.ndarray, mask: np.ndarray, temperature: float
) -> Tensor:
    """Cross entropy of finding the true quantised vector among distractors by cosine (equation 3), over masked frames.

    Args:
        predicted, target: (batch, frames, dim).
        negatives: (batch, frames, negatives, dim).
        same: (batch, frames, negatives) bool, distractors that are the true vector itself and so do not compete.
        mask: (batch, frames) bool, the frames to sum over.
        temperature: kappa.

    Returns:
        ().
    """
    logits = contrastive_logits(predicted, target, negatives, temperature)
    absent = np.concatenate([np.zeros((*same.shape[:2], 1), bool), same], -1)
    surprise = -log_softmax(where(absent, -np.inf, logits))[:, :, 0]
    return where(mask, surprise, 0.0).sum()


def contrastive_accuracy(logits: np.ndarray, same: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Share of masked frames with a distractor that differs where the true vector beats all that do: ().

    ``logits``: from ``contrastive_logits``; others as in ``contrastive_loss``.
    """
    right = [
        logits[row, frame, 0] > logits[row, frame, 1:][~same[row, frame]].max(initial=-np.inf)
        for row, frame in np.argwhere(mask & ~same.all(-1))
    ]
    return np.array(sum(right) / max(mask.sum(), 1))


def feature_penalty(features: Tensor, frames: np.ndarray | None, mask: np.ndarray) -> Tensor:
    """Mean square of (batch, frames, features) over the valid frames of utterances with a masked one: ().

    ``frames``: (batch,) valid frames, None for all; ``mask``: (batch, frames) bool, masked frames.
    """
    width = features.shape[1]
    valid = np.arange(width) < (np.full(len(mask), width) if frames is None else np.asarray(frames))[:, None]
    valid &= mask.any(1, keepdims=True)
    return where(valid[..., None], features.square(), 0.0).sum() / float(valid.sum() * features.shape[2])


def codevector_perplexities(probabilities: Tensor, mask: np.ndarray | None) -> Tensor:
    """exp of the entropy of the mean choice, for each group: (batch, frames, groups, entries) -> (groups,).

    ``mask``: (batch, frames) bool, frames to average over; None for all. The entropy's logarithm has 1e-7 added.
    """
    if mask is None:
        mean = probabilities.mean((0, 1))
    else:
        mean = where(mask[:, :, None, None], probabilities, 0.0).sum((0, 1)) / float(mask.sum())
    return exp(-(mean * log(mean + 1e-7)).sum(-1))


def diversity_loss(perplexity: Tensor, codevectors: int, mask: np.ndarray) -> Tensor:
    """Unused share of the codebook (equation 4 as in fairseq) times the number of masked frames; all scalars."""
    return (codevectors - perplexity) / codevectors * float(mask.sum())


# ---- classification ---------------------------------------------------------------------------------------------


def cross_entropy(logits: Tensor, labels: np.ndarray) -> Tensor:
    """Mean surprise at class numbers: (rows, classes) and (rows,) -> (); rows with label -100 do not count."""
    counted = np.flatnonzero(labels != -100)
    return -log_softmax(logits)[counted, labels[counted]].mean()


def squared_error(values: Tensor, targets: np.ndarray) -> Tensor:
    """Mean squared error of values against as many targets -> ()."""
    errors = values - targets.reshape(values.shape)
    return (errors * errors).mean()


def am_softmax_loss(
    embeddings: Tensor, weight: Tensor, labels: np.ndarray, *, scale: float = 30.0, margin: float = 0.4
) -> Tensor:
    """Additive-margin softmax (Wang et al. 2018): the cosine to the true speaker must win by the margin.

    Args:
        embeddings: (batch, dim).
        weight: (dim, speakers), one direction per speaker.
        labels: (batch,) speaker numbers.
        scale, margin: s and m of the paper.

    Returns:
        ().
    """
    cosine = unit(embeddings, 1e-12) @ unit(weight.transpose(1, 0), 1e-12).transpose(1, 0)
    true = labels[:, None] == np.arange(weight.shape[1])
    return cross_entropy((cosine - margin * true) * scale, labels)


def unit(x: Tensor, epsilon: float) -> Tensor:
    """Vectors of the last axis at length 1, or divided by ``epsilon`` where they are shorter than that."""
    squares = x.square().sum(-1, keepdims=True)
    return x / sqrt(where(squares.data > epsilon**2, squares, epsilon**2))
