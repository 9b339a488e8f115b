"""The losses. They know nothing of models and configurations; numerically delicate parts run in float32."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

Tensor = Any  # tf.Tensor, eager or in a graph


# ---- CTC --------------------------------------------------------------------------------------------------------


def ctc_loss(
    logits: Tensor, lengths: Tensor, labels: Tensor, *, blank: int, reduction: str, zero_infinity: bool
) -> Tensor:
    """Connectionist temporal classification (Graves et al. 2006), in float32.

    TensorFlow's own CTC stops at an utterance with more labels than frames, and does not compile with XLA.

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
    labels = tf.cast(labels, tf.int32)
    padding = labels < 0
    order = tf.argsort(tf.cast(padding, tf.int32), axis=1, stable=True)  # letters first, in their order
    letters = tf.maximum(tf.gather(labels, order, batch_dims=1), 0)
    letter_counts = tf.reduce_sum(tf.cast(~padding, tf.int32), axis=1)
    log_probs = tf.nn.log_softmax(tf.cast(logits, tf.float32))

    # The states of an utterance: a blank, the first letter, a blank, the second letter ... a blank.
    blanks = tf.fill(tf.shape(letters), blank)
    states = tf.reshape(tf.stack([blanks, letters], axis=2), (tf.shape(letters)[0], -1))
    states = tf.pad(states, [[0, 0], [0, 1]], constant_values=blank)
    emissions = tf.transpose(tf.gather(log_probs, states, axis=2, batch_dims=1), (1, 0, 2))
    two_before = tf.pad(states, [[0, 0], [2, 0]], constant_values=blank)[:, : tf.shape(states)[1]]
    may_skip = (states != blank) & (states != two_before)  # a blank may be left out between different letters
    path_loss = _path_loss if tf.inside_function() else _eager_path_loss
    losses = path_loss(emissions, tf.cast(lengths, tf.int32), letter_counts, may_skip)

    if zero_infinity:
        losses = tf.where(tf.math.is_inf(losses), tf.zeros_like(losses), losses)
    if reduction == "none":
        return losses
    if reduction == "mean":
        return tf.reduce_mean(losses / tf.cast(tf.maximum(letter_counts, 1), tf.float32))
    return tf.reduce_sum(losses)


def ctc_loss_sum(
    logits: Tensor, lengths: Tensor, labels: Tensor, *, blank: int, reduction: str, zero_infinity: bool
) -> tuple[Tensor, Tensor]:
    """The sum of ``ctc_loss``, and the divisor of a mean over several batches; arguments as in ``ctc_loss``.

    A row without letters is filling: it adds nothing to either, and has no gradient.

    Returns:
        The sum and the number of what counts: for ``"mean"`` utterances, each with its loss divided by its letters;
        otherwise letters.
    """
    losses = ctc_loss(logits, lengths, labels, blank=blank, reduction="none", zero_infinity=zero_infinity)
    letters = tf.reduce_sum(tf.cast(labels >= 0, tf.int32), axis=1)
    losses = tf.where(letters > 0, losses, tf.zeros_like(losses))
    if reduction == "mean":
        spelled = tf.reduce_sum(tf.cast(letters > 0, tf.int32))
        return tf.reduce_sum(losses / tf.cast(tf.maximum(letters, 1), losses.dtype)), spelled
    return tf.reduce_sum(losses), tf.reduce_sum(letters)


def _path_loss(emissions: Tensor, lengths: Tensor, letter_counts: Tensor, may_skip: Tensor) -> Tensor:
    """-log of the summed probability of all paths, (batch,); its gradient comes from the posteriors of the states.

    Args:
        emissions: (frames, batch, states) log probabilities.
        lengths: (batch,) frames; letter_counts: (batch,) letters.
        may_skip: (batch, states) bool, states that may follow the one two before.
    """
    frame_numbers = tf.range(tf.shape(emissions)[0])
    lengths = tf.expand_dims(lengths, 1)
    state_numbers = tf.expand_dims(tf.range(tf.shape(emissions)[2]), 0)
    last = 2 * tf.expand_dims(letter_counts, 1)
    start = _log_of(state_numbers <= tf.minimum(1, last))  # (1 or batch, states): blank or first letter
    final = _log_of((state_numbers <= last) & (state_numbers >= last - 1))  # last blank or last letter

    @tf.custom_gradient
    def loss_of(emissions: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        def forward(alpha: Tensor, frame: tuple[Tensor, Tensor]) -> Tensor:
            number, emission = frame
            arrived = _log_add(alpha, _shifted(alpha, 1), _shifted(alpha, 2) + _log_of(may_skip))
            arrived = tf.where(number == 0, start, arrived) + emission
            return tf.where(number < lengths, arrived, alpha)

        nothing = _log_of(tf.zeros_like(emissions[0], tf.bool))
        alphas = tf.scan(forward, (frame_numbers, emissions), nothing)
        log_likelihood = tf.reduce_logsumexp(alphas[-1] + final, axis=1)

        def gradient(upstream: Tensor) -> Tensor:
            skip_from = _log_of(_shifted(may_skip, -2))

            def backward(beta_and_emission: tuple[Tensor, Tensor], frame: tuple[Tensor, Tensor]) -> Any:
                number, emission = frame
                onward = beta_and_emission[0] + beta_and_emission[1]
                left = _log_add(onward, _shifted(onward, -1), _shifted(onward, -2) + skip_from)
                return tf.where(number == lengths - 1, final + tf.zeros_like(left), left), emission

            betas, _ = tf.scan(backward, (frame_numbers, emissions), (nothing, nothing), reverse=True)
            possible = tf.math.is_finite(log_likelihood)
            total = tf.where(possible, log_likelihood, tf.zeros_like(log_likelihood))
            posterior = tf.exp(alphas + betas - tf.expand_dims(total, 1))
            counts = (tf.reshape(frame_numbers, (-1, 1, 1)) < lengths) & tf.expand_dims(possible, 1)
            return -tf.where(counts, posterior, tf.zeros_like(posterior)) * tf.expand_dims(upstream, 1)

        return -log_likelihood, gradient

    return loss_of(emissions)


# One graph for all lengths, for eager calls alone. Where the first call was traced within another graph, such as that
# of ``fit``, gradients of later eager calls were NaN (TensorFlow 2.21).
_eager_path_loss = tf.function(_path_loss, reduce_retracing=True, autograph=False)


def _log_of(condition: Tensor) -> Tensor:
    """0 where True, -infinity where False."""
    zeros = tf.zeros_like(condition, tf.float32)
    return tf.where(condition, zeros, zeros - float("inf"))


def _log_add(*terms: Tensor) -> Tensor:
    return tf.reduce_logsumexp(tf.stack(terms), axis=0)


def _shifted(x: Tensor, steps: int) -> Tensor:
    """(batch, states) moved up, or down where ``steps`` is negative; what comes in is impossible."""
    filling = False if x.dtype == tf.bool else float("-inf")
    if steps > 0:
        return tf.pad(x, [[0, 0], [steps, 0]], constant_values=filling)[:, :-steps]
    return tf.pad(x, [[0, 0], [0, -steps]], constant_values=filling)[:, -steps:]


# ---- pretraining ------------------------------------------------------------------------------------------------


def contrastive_logits(target: Tensor, negatives: Tensor, predicted: Tensor, temperature: float) -> Tensor:
    """Cosine similarities of predictions with the true and the distracting quantised vectors (paper equation 3).

    Args:
        target: (1, batch, frames, dim), the quantised vector of each frame.
        negatives: (negatives, batch, frames, dim), distractors from other frames.
        predicted: (batch, frames, dim).
        temperature: kappa in the paper.

    Returns:
        (1 + negatives, batch, frames), the true one first.
    """
    candidates = tf.concat([target, negatives], axis=0)
    one, other = (_normalised(tf.cast(x, tf.float32), 1e-8) for x in (predicted, candidates))
    return tf.cast(tf.reduce_sum(one * other, axis=-1), candidates.dtype) / temperature


def contrastive_loss(logits: Tensor, same: Tensor, mask: Tensor) -> Tensor:
    """Cross entropy of finding the true quantised vector among the distractors, summed over masked frames.

    Args:
        logits: (1 + negatives, batch, frames), the true one first.
        same: (negatives, batch, frames) bool, distractors that equal the true vector; they do not compete.
        mask: (batch, frames) bool, masked frames.
    """
    logits = tf.cast(logits, tf.float32)
    excluded = tf.concat([tf.zeros_like(logits[:1], tf.bool), same], axis=0)
    competing = tf.where(excluded, tf.constant(float("-inf")), logits)
    surprise = tf.reduce_logsumexp(competing, axis=0) - logits[0]
    return tf.reduce_sum(tf.where(mask, surprise, tf.zeros_like(surprise)))


def similarities(predicted: Tensor, quantized: Tensor, temperature: float) -> Tensor:
    """Cosines of the predictions with the quantised vectors of the same utterance, by the temperature, in float32.

    Args:
        predicted, quantized: (batch, frames, dim).
        temperature: kappa in the paper.

    Returns:
        (batch, frames, frames): of each prediction with the vector of each frame. No vector is copied per distractor.
    """
    one, other = (_normalised(tf.cast(x, tf.float32), 1e-8) for x in (predicted, quantized))
    return tf.matmul(one, other, transpose_b=True) / temperature


def count_distractors(negatives: Tensor) -> Tensor:
    """How often each frame is a distractor, as ``masking.count_negatives`` of the core: (batch, frames, negatives)
    positions in the flattened (batch * frames) axis, all of the same utterance -> (batch, frames, frames) int32.
    """
    batch, frames, _ = tf.unstack(tf.shape(negatives))
    rows = tf.reshape(tf.range(batch * frames) * frames, (batch, frames, 1))
    places = tf.reshape(rows + tf.cast(negatives, tf.int32) % frames, (-1,))
    counts = tf.math.unsorted_segment_sum(tf.ones_like(places), places, batch * frames * frames)
    return tf.reshape(counts, (batch, frames, frames))


def competitors(codes: Tensor, counts: Tensor) -> Tensor:
    """How often the vector of each frame competes: once on the diagonal, where it is the true one, elsewhere as often
    as it was drawn, and never where it equals the true one.

    ``codes``: (batch, frames, groups), chosen codevectors; ``counts``: (batch, frames, frames), drawn distractors.
    Projections of equal codevectors may differ in their last bits, so codes say what is equal. Returns float32.
    """
    same = tf.reduce_all(tf.expand_dims(codes, 2) == tf.expand_dims(codes, 1), axis=-1)
    drawn = tf.cast(counts, tf.float32)
    differing = tf.where(same, tf.zeros_like(drawn), drawn)
    return tf.linalg.set_diag(differing, tf.ones(tf.shape(codes)[:2]))


def contrastive_loss_of_frames(similarity: Tensor, competing: Tensor, mask: Tensor) -> Tensor:
    """Cross entropy of finding the true quantised vector among the distractors, summed over masked frames.

    Args:
        similarity: (batch, frames, frames), from ``similarities``.
        competing: (batch, frames, frames), from ``competitors``.
        mask: (batch, frames) bool, masked frames.
    """
    truth = tf.linalg.diag_part(similarity)
    surprise = tf.reduce_logsumexp(similarity + tf.math.log(competing), axis=-1) - truth
    return tf.reduce_sum(tf.where(mask, surprise, tf.zeros_like(surprise)))


def contrastive_accuracy(similarity: Tensor, competing: Tensor, mask: Tensor) -> Tensor:
    """Share of masked frames whose true vector is more similar than every distractor; arguments as in
    ``contrastive_loss_of_frames``.

    A tie is not right, nor is a frame without a distractor that differs: in a collapsed codebook none is right.
    """
    truth = tf.linalg.diag_part(similarity)
    others = tf.linalg.set_diag(competing, tf.zeros_like(truth))
    best = tf.reduce_max(tf.where(others == 0, tf.constant(float("-inf")), similarity), axis=-1)
    right = mask & (truth > best) & tf.math.is_finite(best)
    masked = tf.reduce_sum(tf.cast(mask, tf.float32))
    return tf.reduce_sum(tf.cast(right, tf.float32)) / tf.maximum(masked, 1.0)


def codevector_perplexities(probabilities: Tensor, mask: Tensor | None) -> Tensor:
    """Effective number of codevectors in each group, from 1 (collapsed) to entries (uniform): (groups,).

    ``probabilities``: (batch, frames, groups, entries), averaged over the frames of ``mask`` (batch, frames) bool,
    over all where None. Where no frame is masked it is 1.
    """
    return perplexities_of_sums(*codevector_sums(probabilities, mask))


def codevector_sums(probabilities: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """The sums (groups, entries) of which ``codevector_perplexities`` takes the mean, and the number of frames in them;
    arguments as there. Those of several shares of a micro-batch add up.
    """
    if mask is None:
        frames = tf.reduce_prod(tf.shape(probabilities)[:2])
        return tf.reduce_sum(probabilities, axis=(0, 1)), tf.cast(frames, probabilities.dtype)
    chosen = tf.cast(mask, probabilities.dtype)
    return tf.einsum("bt,btge->ge", chosen, probabilities), tf.reduce_sum(chosen)


def perplexities_of_sums(total: Tensor, frames: Tensor) -> Tensor:
    """``codevector_perplexities`` from what ``codevector_sums`` returns."""
    mean = total / tf.maximum(frames, 1.0)
    return tf.exp(-tf.reduce_sum(mean * tf.math.log(mean + 1e-7), axis=-1))


def codevector_perplexity(probabilities: Tensor, mask: Tensor | None) -> Tensor:
    """The sum of ``codevector_perplexities`` over groups: from groups (collapsed) to groups * entries (uniform)."""
    return tf.reduce_sum(codevector_perplexities(probabilities, mask))


def diversity_loss(perplexity: Tensor, codevectors: int, mask: Tensor) -> Tensor:
    """Unused share of the codebook (paper equation 4, as in fairseq), times the number of masked frames."""
    return (codevectors - perplexity) / codevectors * tf.reduce_sum(tf.cast(mask, perplexity.dtype))


# ---- classification ---------------------------------------------------------------------------------------------


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean cross entropy of (items, classes) and (items,) class numbers, in float32; the label -100 does not count."""
    total, count = cross_entropy_sum(logits, labels)
    return total / tf.cast(count, total.dtype)


def cross_entropy_sum(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """The sum of which ``cross_entropy`` is the mean, and the number of labels that count."""
    labels = tf.cast(labels, tf.int32)
    counted = labels != -100
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(
        labels=tf.where(counted, labels, tf.zeros_like(labels)), logits=tf.cast(logits, tf.float32)
    )
    return tf.reduce_sum(losses * tf.cast(counted, tf.float32)), tf.reduce_sum(tf.cast(counted, tf.int32))


def am_softmax_loss(
    embeddings: Tensor, weight: Tensor, labels: Tensor, *, scale: float = 30.0, margin: float = 0.4
) -> Tensor:
    """Additive-margin softmax (Wang et al. 2018): the cross entropy of ``am_softmax_logits``; arguments as there."""
    logits = am_softmax_logits(embeddings, weight, labels, scale=scale, margin=margin)
    return cross_entropy(logits, tf.reshape(labels, (-1,)))


def squared_error_sum(values: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """The sum of the squared errors of values against as many targets, in float32, and their number."""
    wide = tf.cast(values, tf.float32)
    targets = tf.reshape(tf.cast(targets, wide.dtype), tf.shape(values))
    return tf.reduce_sum(tf.square(wide - targets)), tf.size(values)


def am_softmax_logits(
    embeddings: Tensor, weight: Tensor, labels: Tensor, *, scale: float = 30.0, margin: float = 0.4
) -> Tensor:
    """Cosines to the speakers, among which the true one must win by ``margin``: (batch, speakers), scaled, in float32.

    Args:
        embeddings: (batch, dim).
        weight: (dim, speakers), one direction for each speaker.
        labels: (batch,) speaker numbers.
        scale, margin: s and m in the paper.
    """
    directions = tf.transpose(_normalised(tf.transpose(tf.cast(weight, tf.float32)), 1e-12))
    cosine = tf.matmul(_normalised(tf.cast(embeddings, tf.float32), 1e-12), directions)
    labels = tf.reshape(labels, (-1,))
    true = tf.one_hot(labels, tf.shape(weight)[1], on_value=True, off_value=False, dtype=tf.bool)
    return scale * tf.where(true, cosine - margin, cosine)


def _normalised(x: Tensor, shortest: float) -> Tensor:
    """Vectors along the last dimension with length 1; those shorter than ``shortest`` are divided by that."""
    squared = tf.reduce_sum(tf.square(x), axis=-1, keepdims=True)
    return x * tf.math.rsqrt(tf.maximum(squared, shortest**2))
