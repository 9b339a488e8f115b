"""The losses. They know nothing of models and configurations; numerically delicate parts run in float32."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def ctc_loss(
    logits: Tensor, lengths: Tensor, labels: Tensor, *, blank: int, reduction: str, zero_infinity: bool
) -> Tensor:
    """Connectionist temporal classification (Graves et al. 2006), in float32.

    Args:
        logits: (batch, frames, vocab), before the softmax.
        lengths: (batch,) valid frames.
        labels: (batch, letters); negative entries are padding. Where these two are on the CPU nothing waits for a GPU.
        blank: index of the blank, the tokenizer's pad token.
        reduction: ``"sum"``; ``"mean"``, over the batch of losses divided by their label lengths; ``"none"``.
        zero_infinity: count an utterance with more labels than frames as 0 instead of infinity.

    Returns:
        Scalar, or (batch,) for ``"none"``.
    """
    padding = labels < 0
    # Letters first, in their order, then padding: this is the layout of torch's two-dimensional targets.
    letters = labels.gather(1, padding.long().argsort(dim=1, stable=True)).clamp(min=0)
    log_probs = F.log_softmax(logits, dim=-1, dtype=torch.float32).transpose(0, 1)
    return F.ctc_loss(
        log_probs,
        # int64 keeps to torch's own kernel; cuDNN's is not deterministic and limits label lengths
        letters.long().to(logits.device),
        lengths,
        (~padding).sum(1),
        blank=blank,
        reduction=reduction,
        zero_infinity=zero_infinity,
    )


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
    letters = (labels >= 0).sum(1)
    losses = torch.where((letters > 0).to(losses.device), losses, 0.0)
    if reduction == "mean":
        return (losses / letters.clamp(min=1).to(losses)).sum(), (letters > 0).sum()
    return losses.sum(), letters.sum()


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
    candidates = torch.cat([target, negatives])
    similarity = F.cosine_similarity(predicted.float(), candidates.float(), dim=-1)
    return similarity.to(candidates.dtype) / temperature


def contrastive_loss(logits: Tensor, same: Tensor, mask: Tensor) -> Tensor:
    """Cross entropy of finding the true quantised vector among the distractors, summed over masked frames.

    Args:
        logits: (1 + negatives, batch, frames), the true one first.
        same: (negatives, batch, frames) bool, distractors that equal the true vector; they do not compete.
        mask: (batch, frames) bool, masked frames.
    """
    truth = torch.zeros_like(same[:1])
    logits = logits.float().masked_fill(torch.cat([truth, same]), float("-inf"))
    surprise = logits.logsumexp(0) - logits[0]
    return torch.where(mask, surprise, 0.0).sum()


def similarities(predicted: Tensor, quantized: Tensor, temperature: float) -> Tensor:
    """Cosines of the predictions with the quantised vectors of the same utterance, by the temperature, in float32.

    Args:
        predicted, quantized: (batch, frames, dim).
        temperature: kappa in the paper.

    Returns:
        (batch, frames, frames): of each prediction with the vector of each frame. No vector is copied per distractor.
    """
    with torch.autocast(predicted.device.type, enabled=False):
        one, other = (
            F.normalize(x.to(torch.promote_types(x.dtype, torch.float32)), dim=-1, eps=1e-8)
            for x in (predicted, quantized)
        )
        return one @ other.transpose(1, 2) / temperature


def count_distractors(negatives: Tensor) -> Tensor:
    """How often each frame is a distractor, as ``masking.count_negatives`` of the core: (batch, frames, negatives)
    positions in the flattened (batch * frames) axis, all of the same utterance -> (batch, frames, frames) int32.
    """
    batch, frames, _ = negatives.shape
    counts = torch.zeros(batch, frames, frames, dtype=torch.int32, device=negatives.device)
    inside = negatives.long() % frames
    return counts.scatter_add_(2, inside, torch.ones_like(inside, dtype=torch.int32))


def competitors(codes: Tensor, counts: Tensor) -> Tensor:
    """How often the vector of each frame competes: once on the diagonal, where it is the true one, elsewhere as often
    as it was drawn, and never where it equals the true one.

    ``codes``: (batch, frames, groups), chosen codevectors; ``counts``: (batch, frames, frames), drawn distractors.
    Projections of equal codevectors may differ in their last bits, so codes say what is equal. Returns float32.
    """
    same = (codes[:, :, None] == codes[:, None]).all(-1)
    truth = torch.eye(codes.shape[1], dtype=torch.bool, device=codes.device)
    return counts.float().masked_fill(same, 0.0).masked_fill(truth, 1.0)


def contrastive_loss_of_frames(similarity: Tensor, competing: Tensor, mask: Tensor) -> Tensor:
    """Cross entropy of finding the true quantised vector among the distractors, summed over masked frames.

    Args:
        similarity: (batch, frames, frames), from ``similarities``.
        competing: (batch, frames, frames), from ``competitors``.
        mask: (batch, frames) bool, masked frames.
    """
    truth = similarity.diagonal(dim1=1, dim2=2)
    surprise = (similarity + competing.log()).logsumexp(-1) - truth
    return torch.where(mask, surprise, 0.0).sum()


def contrastive_accuracy(similarity: Tensor, competing: Tensor, mask: Tensor) -> Tensor:
    """Share of masked frames whose true vector is more similar than every distractor; arguments as in
    ``contrastive_loss_of_frames``.

    A tie is not right, nor is a frame without a distractor that differs: in a collapsed codebook none is right.
    """
    truth = similarity.diagonal(dim1=1, dim2=2)
    own = torch.eye(mask.shape[1], dtype=torch.bool, device=mask.device)
    best = similarity.masked_fill(own | (competing == 0), float("-inf")).amax(-1)
    right = mask & (truth > best) & torch.isfinite(best)
    return right.sum() / mask.sum().clamp(min=1)


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
    flat = probabilities.flatten(0, 1)
    if mask is None:
        return flat.sum(0), torch.ones_like(flat[:, 0, 0]).sum()  # a size would be a constant of exported programs
    chosen = mask.flatten()[:, None, None]
    return torch.where(chosen, flat, 0.0).sum(0), chosen.sum()


def perplexities_of_sums(total: Tensor, frames: Tensor) -> Tensor:
    """``codevector_perplexities`` from what ``codevector_sums`` returns."""
    mean = total / frames.clamp(min=1)
    return torch.exp(-(mean * torch.log(mean + 1e-7)).sum(-1))


def codevector_perplexity(probabilities: Tensor, mask: Tensor | None) -> Tensor:
    """The sum of ``codevector_perplexities`` over groups: from groups (collapsed) to groups * entries (uniform)."""
    return codevector_perplexities(probabilities, mask).sum()


def diversity_loss(perplexity: Tensor, codevectors: int, mask: Tensor) -> Tensor:
    """Unused share of the codebook (paper equation 4, as in fairseq), times the number of masked frames."""
    return (codevectors - perplexity) / codevectors * mask.sum()


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean cross entropy of (items, classes) and (items,) class numbers, in float32; the label -100 does not count."""
    total, count = cross_entropy_sum(logits, labels)
    return total / count


def cross_entropy_sum(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """The sum of which ``cross_entropy`` is the mean, and the number of labels that count."""
    wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return F.cross_entropy(wide, labels.long(), reduction="sum"), (labels != -100).sum()


def am_softmax_loss(
    embeddings: Tensor, weight: Tensor, labels: Tensor, *, scale: float = 30.0, margin: float = 0.4
) -> Tensor:
    """Additive-margin softmax (Wang et al. 2018): the cross entropy of ``am_softmax_logits``; arguments as there."""
    return cross_entropy(am_softmax_logits(embeddings, weight, labels, scale=scale, margin=margin), labels.flatten())


def squared_error_sum(values: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """The sum of the squared errors of values against as many targets, in float32, and their number."""
    wide = values.to(torch.promote_types(values.dtype, torch.float32))
    return (wide - targets.reshape(values.shape).to(wide.dtype)).square().sum(), torch.ones_like(wide).sum()


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
    embeddings, weight = (x.to(torch.promote_types(x.dtype, torch.float32)) for x in (embeddings, weight))
    cosine = F.normalize(embeddings, dim=1) @ F.normalize(weight, dim=0)
    true = torch.arange(weight.shape[1], device=labels.device) == labels.flatten()[:, None]
    return scale * torch.where(true, cosine - margin, cosine)
