"""The reference: every head of wav2vec 2.0 in float64 numpy, stage by stage, with losses and exact gradients.

It says which back end is wrong when two of them differ. ``reference_body.py`` is the body, ``reference_losses.py`` the
losses, ``reference_layers.py`` what both are built from; all of it is checked against transformers 4.57.6 in double
precision. Gradients are those of reverse-mode differentiation (``autodiff.py``), exact up to rounding, so each value of
each parameter is compared; the differentiation itself is checked by finite differences.

Stages of ``forward``, in order, all with frames before channels:

    feature_extractor.conv_layers.{i}   (batch, frames_i, conv_dim[i])
    feature_projection.layer_norm       (batch, frames, conv_dim[-1]): ``extract_features``
    feature_projection                  (batch, frames, hidden)
    masked                              the same after SpecAugment
    encoder.pos_conv_embed              the positions alone
    encoder.dropout                     input of the first layer: ``hidden_states[0]``
    encoder.layers.{i}.attention, .feed_forward, .adapter_layer, encoder.layers.{i}
    encoder                             (batch, frames, hidden), the last hidden state without the adapter
    adapter.layers.{i}                  (batch, frames'_i, output hidden)
    ForPreTraining                      project_hid, quantizer, soft_codevector_perplexity, hard_codevector_perplexity,
                                        codevector_perplexity, project_q, contrastive_loss, contrastive_accuracy,
                                        diversity_loss, feature_penalty, loss
    ForCTC                              logits, loss
    ForSequenceClassification           layer_weights (where mixed), projector, pooled, logits, loss; with a tanh head
                                        no projector, and classifier.dense after pooled
    ForAudioFrameClassification         layer_weights (where mixed), logits, loss
    ForXVector                          layer_weights (where mixed), projector, tdnn.{i}, pooled, embeddings, logits,
                                        loss
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from conformance import reference_layers as layers
from conformance import reference_losses as losses
from conformance.autodiff import Tensor, concatenate, tanh, windows
from conformance.reference_body import ForwardPass, Randomness, body
from conformance.reference_layers import frame_mask, linear
from wav2vec2_core.config import Wav2Vec2Config
from wav2vec2_core.errors import InputError
from wav2vec2_core.inputs import check_targets

NO_RANDOMNESS = Randomness()


def forward(
    config: Wav2Vec2Config,
    head: str,
    parameters: Mapping[str, np.ndarray],
    input_values: np.ndarray,
    attention_mask: np.ndarray | None = None,
    labels: np.ndarray | None = None,
    randomness: Randomness = NO_RANDOMNESS,
) -> dict[str, np.ndarray]:
    """Every stage by name, in the order of the computation.

    Args:
        config: configuration of the model.
        head: one of ``wav2vec2_core.parameters.HEADS``.
        parameters: arrays of any float type by checkpoint name; computed with in float64, one at a time.
        input_values: (batch, samples) waveforms.
        attention_mask: (batch, samples), 1 for samples and 0 for the padding after them; None for no padding.
        labels: (batch, letters) for ForCTC with negative padding, (batch,) for ForSequenceClassification and
            ForXVector, (batch, frames, labels) one-hot for ForAudioFrameClassification; None for no loss.
            ForPreTraining has a loss where ``randomness`` has distractors.
        randomness: the draws of a training step; none in inference.
    """
    run = ForwardPass(config, head, parameters, randomness, tracked=False)
    _HEADS[head](run, input_values, attention_mask, labels)
    return run.stages


def gradients(
    config: Wav2Vec2Config,
    head: str,
    parameters: Mapping[str, np.ndarray],
    input_values: np.ndarray,
    attention_mask: np.ndarray | None = None,
    labels: np.ndarray | None = None,
    randomness: Randomness = NO_RANDOMNESS,
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """The stages, and the gradient of the objective by every parameter, zeros for those that it does not depend on.

    The objective is the sum of the loss. ``Model`` has none: there it is the sum of the last hidden state times
    ``probe``. So it is for ForPreTraining without distractors: ``project_hid`` and ``project_q``, each times ``probe``,
    and the perplexity. Arguments as for ``forward``.

    Raises:
        InputError: there are no labels to compute a loss from.
    """
    run = ForwardPass(config, head, parameters, randomness, tracked=True)
    objective = _HEADS[head](run, input_values, attention_mask, labels)
    if objective is None:
        raise InputError(f"{head} has no loss without labels: pass them to differentiate")
    objective.sum().backward()
    found = {}
    for name, array in parameters.items():
        leaf = run.leaves.get(name)
        found[name] = np.zeros(np.shape(array)) if leaf is None or leaf.gradient is None else leaf.gradient
    return run.stages, found


def probe(shape: tuple[int, ...]) -> np.ndarray:
    """Weights from -1 to 1 of this shape: the sum of a state times them depends on every value of it."""
    return np.linspace(-1.0, 1.0, int(np.prod(shape))).reshape(shape)


# ---- heads ------------------------------------------------------------------------------------------------------


def _model(run: ForwardPass, values: np.ndarray, mask: np.ndarray | None, labels: np.ndarray | None) -> Tensor:
    hidden, _, _ = body(run, values, mask)
    return (hidden * probe(hidden.shape)).sum()


def _pretraining(run: ForwardPass, values: np.ndarray, mask: np.ndarray | None, labels: np.ndarray | None) -> Tensor:
    config, randomness = run.config, run.randomness
    hidden, features, _ = body(run, values, mask)
    samples = None if mask is None else np.asarray(mask).astype(np.int64).sum(1)
    frames = None if samples is None else config.num_frames(samples, add_adapter=False)
    projected = run.stage("project_hid", linear(hidden, *run.head_pair("project_hid")))
    quantized, codes, perplexity = _quantize(run, run.dropped("dropout_features", features))
    quantized = run.stage("project_q", linear(quantized, *run.head_pair("project_q")))
    chosen, masked = randomness.sampled_negative_indices, randomness.mask_time_indices
    if chosen is None or masked is None:
        return (projected * probe(projected.shape)).sum() + (quantized * probe(quantized.shape)).sum() + perplexity
    width = quantized.shape[-1]
    negatives = quantized.reshape(-1, width)[chosen]  # (batch, frames, negatives, dim)
    same = (codes.reshape(-1, codes.shape[-1])[chosen] == codes[:, :, None]).all(-1)
    temperature = config.contrastive_logits_temperature
    contrastive = losses.contrastive_loss(projected, quantized, negatives, same, masked, temperature)
    run.stage("contrastive_loss", contrastive)
    logits = losses.contrastive_logits(projected, quantized, negatives, temperature).data
    run.stage("contrastive_accuracy", Tensor(losses.contrastive_accuracy(logits, same, masked)))
    codevectors = config.num_codevectors_per_group * config.num_codevector_groups
    diversity = run.stage("diversity_loss", losses.diversity_loss(perplexity, codevectors, masked))
    penalty = run.stage("feature_penalty", losses.feature_penalty(run.features, frames, masked))
    weighted = penalty * (config.feature_penalty_weight * float(masked.sum()))
    return run.stage("loss", contrastive + diversity * config.diversity_loss_weight + weighted)


def _quantize(run: ForwardPass, features: Tensor) -> tuple[Tensor, np.ndarray, Tensor]:
    """Product quantisation (equation 1): vectors (batch, frames, codevector_dim), codes (batch, frames, groups), and
    the perplexity of the codebook ().

    Inference chooses the largest logit. Training adds noise, and its choice has the gradient of the softmax at the
    temperature (straight-through); perplexity is then that of the softmax without noise.
    """
    config, noise = run.config, run.randomness.gumbel_noise
    batch, frames, _ = features.shape
    groups, entries = config.num_codevector_groups, config.num_codevectors_per_group
    logits = linear(features, *run.head_pair("quantizer.weight_proj")).reshape(batch, frames, groups, entries)
    scores = logits.data if noise is None else logits.data + noise
    codes = scores.argmax(-1)
    choice = Tensor(codes[..., None] == np.arange(entries))
    likeliest = Tensor(logits.data.argmax(-1)[..., None] == np.arange(entries))
    measured = [
        run.stage(name, losses.codevector_perplexities(share, run.randomness.mask_time_indices))
        for name, share in (
            ("soft_codevector_perplexity", layers.softmax(logits)),
            ("hard_codevector_perplexity", likeliest),
        )
    ]
    perplexity = measured[1 if noise is None else 0].sum()
    if noise is not None:
        soft = layers.softmax((logits + noise) / run.randomness.gumbel_temperature)
        choice = choice + (soft - soft.data)
    codebook = run.head("quantizer.codevectors").reshape(groups, entries, config.codevector_dim // groups)
    vectors = choice.transpose(2, 0, 1, 3).reshape(groups, batch * frames, entries) @ codebook
    vectors = vectors.transpose(1, 0, 2).reshape(batch, frames, config.codevector_dim)
    run.stage("quantizer", vectors)
    return vectors, codes, run.stage("codevector_perplexity", perplexity)


def _ctc(run: ForwardPass, values: np.ndarray, mask: np.ndarray | None, labels: np.ndarray | None) -> Tensor | None:
    config = run.config
    hidden, _, _ = body(run, values, mask)
    logits = run.stage("logits", linear(run.dropped("dropout", hidden), *run.head_pair("lm_head")))
    if labels is None:
        return None
    loss = losses.ctc_loss(
        logits,
        config.num_frames(_samples(values, mask)),
        labels,
        blank=config.pad_token_id or 0,
        reduction=config.ctc_loss_reduction,
        zero_infinity=config.ctc_zero_infinity,
    )
    return run.stage("loss", loss)


def _sequence_classification(
    run: ForwardPass, values: np.ndarray, mask: np.ndarray | None, labels: np.ndarray | None
) -> Tensor | None:
    hidden, last = _states(run, values, mask), "classifier"
    if run.config.classifier_head == "linear":
        hidden = run.stage("projector", linear(hidden, *run.head_pair("projector")))
    counted = frame_mask(_state_frames(run.config, values, mask), hidden.shape[1])[:, :, None]
    pooled = run.stage("pooled", (hidden * counted).sum(1) / counted.sum(1))
    if run.config.classifier_head == "tanh":
        dense = run.stage("classifier.dense", linear(pooled, *run.head_pair("classifier.dense")))
        pooled, last = tanh(dense), "classifier.out_proj"
    logits = run.stage("logits", linear(pooled, *run.head_pair(last)))
    if labels is None:
        return None
    if check_targets(run.config, labels.shape, len(labels), are_numbers=labels.dtype.kind == "f"):
        return run.stage("loss", losses.squared_error(logits, labels))
    return run.stage("loss", losses.cross_entropy(logits, labels.reshape(-1)))


def _frame_classification(
    run: ForwardPass, values: np.ndarray, mask: np.ndarray | None, labels: np.ndarray | None
) -> Tensor | None:
    logits = run.stage("logits", linear(_states(run, values, mask), *run.head_pair("classifier")))
    if labels is None:
        return None
    # Padded frames count too, as in transformers.
    loss = losses.cross_entropy(logits.reshape(-1, logits.shape[2]), labels.argmax(-1).reshape(-1))
    return run.stage("loss", loss)


def _xvector(run: ForwardPass, values: np.ndarray, mask: np.ndarray | None, labels: np.ndarray | None) -> Tensor | None:
    config = run.config
    hidden = run.stage("projector", linear(_states(run, values, mask), *run.head_pair("projector")))
    for index, (kernel, dilation) in enumerate(zip(config.tdnn_kernel, config.tdnn_dilation, strict=True)):
        seen = windows(hidden, kernel, 1, dilation)
        seen = seen.reshape(*seen.shape[:2], -1)  # (batch, frames', kernel * width): the kernel is a linear layer's
        hidden = run.stage(f"tdnn.{index}", layers.relu(linear(seen, *run.head_pair(f"tdnn.{index}.kernel"))))
    pooled = concatenate(layers.mean_and_deviation(hidden, _pooled_frames(config, values, mask, hidden.shape[1])), 1)
    run.stage("pooled", pooled)
    embeddings = run.stage("embeddings", linear(pooled, *run.head_pair("feature_extractor")))
    logits = run.stage("logits", linear(embeddings, *run.head_pair("classifier")))
    if labels is None:
        return None
    return run.stage("loss", losses.am_softmax_loss(logits, run.head("objective.weight"), labels.reshape(-1)))


def _pooled_frames(config: Wav2Vec2Config, values: np.ndarray, mask: np.ndarray | None, frames: int) -> np.ndarray:
    """(batch, frames) bool, frames of the last TDNN layer to take statistics of.

    Of padded utterances transformers counts the frames lost to kernels as if they were not dilated, and so pools some
    frames that see padding; ``masked_group_norm`` leaves those out.
    """
    if mask is None:
        return np.ones((len(values), frames), bool)
    lengths = _state_frames(config, values, mask)
    for kernel, dilation in zip(config.tdnn_kernel, config.tdnn_dilation, strict=True):
        lengths = lengths - (kernel - 1) * (dilation if config.masked_group_norm else 1)
    return frame_mask(lengths, frames)


def _states(run: ForwardPass, values: np.ndarray, mask: np.ndarray | None) -> Tensor:
    """The input of a classifier, (batch, frames, hidden): the last states, or a learned mixture of all."""
    hidden, _, states = body(run, values, mask)
    if not run.config.use_weighted_layer_sum:
        return hidden
    shares = layers.softmax(run.head("layer_weights"))
    mixed = states[0] * shares[0]
    for index, state in enumerate(states[1:], 1):
        mixed = mixed + state * shares[index]
    return run.stage("layer_weights", mixed)


def _state_frames(config: Wav2Vec2Config, values: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
    """(batch,) valid frames of ``_states``: hidden states are those before the adapter."""
    adapted = config.add_adapter and not config.use_weighted_layer_sum
    return config.num_frames(_samples(values, mask), add_adapter=adapted)


def _samples(values: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
    """(batch,) samples of each utterance."""
    return np.full(len(values), values.shape[1]) if mask is None else mask.astype(np.int64).sum(1)


_HEADS = {
    "Model": _model,
    "ForPreTraining": _pretraining,
    "ForCTC": _ctc,
    "ForSequenceClassification": _sequence_classification,
    "ForAudioFrameClassification": _frame_classification,
    "ForXVector": _xvector,
}
