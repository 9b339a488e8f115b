"""The losses. They know nothing of models and configurations; numerically delicate parts run in float32."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array


def ctc_loss(logits: Array, lengths: Array, labels: Array, *, blank: int, reduction: str, zero_infinity: bool) -> Array:
    """Connectionist temporal classification (Graves et al. 2006), in float32.

    Args:
        logits: (batch, frames, vocab), before the softmax.
        lengths: (batch,) valid frames.
        labels: (batch, letters); negative entries are padding.
        blank: index of the blank, the tokenizer's pad token.
        reduction: ``"sum"``; ``"mean"``, over the batch of losses divided by their label lengths; ``"none"``.
        zero_infinity: count an utterance with more labels than frames as 0 instead of infinity.

    Returns:
        Scalar, or (batch,) for ``"none"``.
    """
    padding = labels < 0
    # Letters first, in their order, then padding: the layout that optax wants.
    order = jnp.argsort(padding, axis=1, stable=True)
    letters = jnp.maximum(jnp.take_along_axis(labels, order, axis=1), 0)
    count = (~padding).sum(1)
    spaces = jnp.arange(labels.shape[1]) >= count[:, None]
    # No path exists where letters and the blanks between equal neighbours need more frames than there are.
    repeats = ((letters[:, 1:] == letters[:, :-1]) & ~spaces[:, 1:]).sum(1)
    impossible = lengths < count + repeats
    with jax.default_matmul_precision("float32"):
        losses = optax.ctc_loss(
            logits.astype(jnp.promote_types(logits.dtype, jnp.float32)),
            (jnp.arange(logits.shape[1]) >= lengths[:, None]).astype(jnp.float32),
            letters,
            spaces.astype(jnp.float32),
            blank_id=blank,
        )
    losses = jnp.where(impossible, 0.0 if zero_infinity else jnp.inf, losses)
    if reduction == "none":
        return losses
    if reduction == "sum":
        return losses.sum()
    return (losses / jnp.maximum(count, 1)).mean()


def ctc_loss_sum(
    logits: Array, lengths: Array, labels: Array, *, blank: int, reduction: str, zero_infinity: bool
) -> tuple[Array, Array]:
    """The sum of ``ctc_loss``, and the divisor of a mean over several batches; arguments as in ``ctc_loss``.

    A row without letters is filling: it adds nothing to either, and has no gradient.

    Returns:
        The sum and the number of what counts: for ``"mean"`` utterances, each with its loss divided by its letters;
        otherwise letters.
    """
    losses = ctc_loss(logits, lengths, labels, blank=blank, reduction="none", zero_infinity=zero_infinity)
    letters = (labels >= 0).sum(1)
    losses = jnp.where(letters > 0, losses, 0.0)
    if reduction == "mean":
        return (losses / jnp.maximum(letters, 1)).sum(), (letters > 0).sum()
    return losses.sum(), letters.sum()


def contrastive_logits(target: Array, negatives: Array, predicted: Array, temperature: float) -> Array:
    """Cosine similarities of predictions with the true and the distracting quantised vectors (paper equation 3).

    Args:
        target: (1, batch, frames, dim), the quantised vector of each frame.
        negatives: (negatives, batch, frames, dim), distractors from other frames.
        predicted: (batch, frames, dim).
        temperature: kappa in the paper.

    Returns:
        (1 + negatives, batch, frames), the true one first.
    """
    candidates = jnp.concatenate([target, negatives])
    one, other = (_unit(x.astype(jnp.promote_types(x.dtype, jnp.float32)), 1e-8) for x in (predicted, candidates))
    return (one * other).sum(-1).astype(candidates.dtype) / temperature


def contrastive_loss(logits: Array, same: Array, mask: Array) -> Array:
    """Cross entropy of finding the true quantised vector among the distractors, summed over masked frames.

    Args:
        logits: (1 + negatives, batch, frames), the true one first.
        same: (negatives, batch, frames) bool, distractors that equal the true vector; they do not compete.
        mask: (batch, frames) bool, masked frames.
    """
    logits = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
    out = jnp.concatenate([jnp.zeros_like(same[:1]), same])
    surprise = jax.nn.logsumexp(jnp.where(out, -jnp.inf, logits), axis=0) - logits[0]
    return jnp.where(mask, surprise, 0.0).sum()


def similarities(predicted: Array, quantized: Array, temperature: float) -> Array:
    """Cosines of the predictions with the quantised vectors of the same utterance, by the temperature, in float32.

    Args:
        predicted, quantized: (batch, frames, dim).
        temperature: kappa in the paper.

    Returns:
        (batch, frames, frames): of each prediction with the vector of each frame. No vector is copied per distractor.
    """
    one, other = (_unit(x.astype(jnp.promote_types(x.dtype, jnp.float32)), 1e-8) for x in (predicted, quantized))
    return jnp.einsum("btd,bsd->bts", one, other, precision=jax.lax.Precision.HIGHEST) / temperature


def count_distractors(negatives: Array) -> Array:
    """How often each frame is a distractor, as ``masking.count_negatives`` of the core: (batch, frames, negatives)
    positions in the flattened (batch * frames) axis, all of the same utterance -> (batch, frames, frames) int32.
    """
    batch, frames, _ = negatives.shape
    rows = jnp.arange(batch)[:, None, None], jnp.arange(frames)[:, None]
    return jnp.zeros((batch, frames, frames), jnp.int32).at[(*rows, negatives % frames)].add(1)


def competitors(codes: Array, counts: Array) -> Array:
    """How often the vector of each frame competes: once on the diagonal, where it is the true one, elsewhere as often
    as it was drawn, and never where it equals the true one.

    ``codes``: (batch, frames, groups), chosen codevectors; ``counts``: (batch, frames, frames), drawn distractors.
    Projections of equal codevectors may differ in their last bits, so codes say what is equal. Returns float32.
    """
    same = (codes[:, :, None] == codes[:, None]).all(-1)
    truth = jnp.eye(codes.shape[1], dtype=bool)
    return jnp.where(truth, 1.0, jnp.where(same, 0.0, counts.astype(jnp.float32)))


def contrastive_loss_of_frames(similarity: Array, competing: Array, mask: Array) -> Array:
    """Cross entropy of finding the true quantised vector among the distractors, summed over masked frames.

    Args:
        similarity: (batch, frames, frames), from ``similarities``.
        competing: (batch, frames, frames), from ``competitors``.
        mask: (batch, frames) bool, masked frames.
    """
    truth = jnp.diagonal(similarity, axis1=1, axis2=2)
    surprise = jax.nn.logsumexp(similarity + jnp.log(competing), axis=-1) - truth
    return jnp.where(mask, surprise, 0.0).sum()


def contrastive_accuracy(similarity: Array, competing: Array, mask: Array) -> Array:
    """Share of masked frames whose true vector is more similar than every distractor; arguments as in
    ``contrastive_loss_of_frames``.

    A tie is not right, nor is a frame without a distractor that differs: in a collapsed codebook none is right.
    """
    truth = jnp.diagonal(similarity, axis1=1, axis2=2)
    own = jnp.eye(mask.shape[1], dtype=bool)
    best = jnp.where(own | (competing == 0), -jnp.inf, similarity).max(-1)
    right = mask & (truth > best) & jnp.isfinite(best)
    return right.sum() / jnp.maximum(mask.sum(), 1)


def codevector_perplexities(probabilities: Array, mask: Array | None) -> Array:
    """Effective number of codevectors in each group, from 1 (collapsed) to entries (uniform): (groups,).

    ``probabilities``: (batch, frames, groups, entries), averaged over the frames of ``mask`` (batch, frames) bool,
    over all where None. Where no frame is masked it is 1.
    """
    return perplexities_of_sums(*codevector_sums(probabilities, mask))


def codevector_sums(probabilities: Array, mask: Array | None) -> tuple[Array, Array]:
    """The sums (groups, entries) of which ``codevector_perplexities`` takes the mean, and the number of frames in them;
    arguments as there. Those of several shares of a micro-batch add up.
    """
    if mask is None:
        batch, frames = probabilities.shape[:2]
        return probabilities.sum((0, 1)), jnp.asarray(batch * frames)
    return jnp.where(mask[..., None, None], probabilities, 0.0).sum((0, 1)), mask.sum()


def perplexities_of_sums(total: Array, frames: Array) -> Array:
    """``codevector_perplexities`` from what ``codevector_sums`` returns."""
    mean = total / jnp.maximum(frames, 1)
    return jnp.exp(-(mean * jnp.log(mean + 1e-7)).sum(-1))


def codevector_perplexity(probabilities: Array, mask: Array | None) -> Array:
    """The sum of ``codevector_perplexities`` over groups: from groups (collapsed) to groups * entries (uniform)."""
    return codevector_perplexities(probabilities, mask).sum()


def diversity_loss(perplexity: Array, codevectors: int, mask: Array) -> Array:
    """Unused share of the codebook (paper equation 4, as in fairseq), times the number of masked frames."""
    return (codevectors - perplexity) / codevectors * mask.sum()


def cross_entropy(logits: Array, labels: Array) -> Array:
    """Mean cross entropy of (items, classes) and (items,) class numbers, in float32; the label -100 does not count."""
    total, count = cross_entropy_sum(logits, labels)
    return total / count


def cross_entropy_sum(logits: Array, labels: Array) -> tuple[Array, Array]:
    """The sum of which ``cross_entropy`` is the mean, and the number of labels that count."""
    counted = labels != -100
    wide = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
    surprise = -jnp.take_along_axis(jax.nn.log_softmax(wide, axis=-1), jnp.where(counted, labels, 0)[:, None], axis=1)[
        :, 0
    ]
    return jnp.where(counted, surprise, 0.0).sum(), counted.sum()


def am_softmax_loss(
    embeddings: Array, weight: Array, labels: Array, *, scale: float = 30.0, margin: float = 0.4
) -> Array:
    """Additive-margin softmax (Wang et al. 2018): the cross entropy of ``am_softmax_logits``; arguments as there."""
    return cross_entropy(am_softmax_logits(embeddings, weight, labels, scale=scale, margin=margin), labels.reshape(-1))


def squared_error_sum(values: Array, targets: Array) -> tuple[Array, Array]:
    """The sum of the squared errors of values against as many targets, in float32, and their number."""
    wide = values.astype(jnp.promote_types(values.dtype, jnp.float32))
    return jnp.square(wide - targets.reshape(values.shape).astype(wide.dtype)).sum(), jnp.asarray(values.size)


def am_softmax_logits(
    embeddings: Array, weight: Array, labels: Array, *, scale: float = 30.0, margin: float = 0.4
) -> Array:
    """Cosines to the speakers, among which the true one must win by ``margin``: (batch, speakers), scaled, in float32.

    Args:
        embeddings: (batch, dim).
        weight: (dim, speakers), one direction for each speaker.
        labels: (batch,) speaker numbers.
        scale, margin: s and m in the paper.
    """
    embeddings, weight = (x.astype(jnp.promote_types(x.dtype, jnp.float32)) for x in (embeddings, weight))
    cosine = _unit(embeddings, 1e-12) @ _unit(weight.T, 1e-12).T
    true = jax.nn.one_hot(labels.reshape(-1), weight.shape[1], dtype=bool)
    return scale * jnp.where(true, cosine - margin, cosine)


def _unit(x: Array, epsilon: Any) -> Array:
    """Vectors of the last axis at length 1; shorter ones than ``epsilon`` are divided by it, with a finite gradient."""
    return x / jnp.sqrt(jnp.maximum(jnp.square(x).sum(-1, keepdims=True), epsilon**2))
