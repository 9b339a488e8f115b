"""Behaviour of the models: padding, masks, layer drop, attention kernels, precision, checkpointing, bad input."""

import copy
import itertools
import pickle

import numpy as np
import pytest
import torch
from torch_models import FRAMES, NORMS, QUIET, SAMPLES, VARIANTS, legal_models, relative, tiny, waveforms
from training_draws import check_draws, check_layer_drop

from wav2vec2_core import masking
from wav2vec2_core.config import ACTIVATIONS, Wav2Vec2Config
from wav2vec2_core.errors import ConfigError, InputError
from wav2vec2_core.outputs import ModelOutput
from wav2vec2_core.parameters import HEADS
from wav2vec2_torch import Wav2Vec2ForPreTraining, Wav2Vec2ForSequenceClassification, Wav2Vec2ForXVector, layers

LENGTHS = (1500, 1203, 700)


def padded(lengths=LENGTHS, rubbish=0.0):
    mask = (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]).long()
    return waveforms(len(lengths), max(lengths)) * mask + rubbish * (1 - mask), mask


# ---- padding ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("head", "norm", "variant"), list(legal_models()))
def test_a_padded_batch_equals_its_single_utterances(head, norm, variant):
    model = tiny(head, masked_group_norm=True, **NORMS[norm], **VARIANTS[variant])
    values, mask = padded(rubbish=3.0)
    with torch.no_grad():
        batch = model(values, mask)
        for row, length in enumerate(LENGTHS):
            single = model(values[row : row + 1, :length])
            for name, value in single.items():
                if "perplexity" in name or name == "hidden_states":  # of the batch; with padding
                    continue
                mine = batch[name][row][: value.shape[1]] if value.dim() == 3 else batch[name][row]
                assert relative(mine, value[0]) <= 1e-5, name


def test_group_norm_without_the_option_sees_padding():
    """What the option is for; without it the numbers are those of transformers."""
    values, mask = padded(rubbish=3.0)
    model = tiny()
    with torch.no_grad():
        batch, single = model(values, mask)[0][2], model(values[2:, :700])[0][0]
    assert relative(batch[: len(single)], single) > 0.01


def test_a_full_mask_changes_nothing():
    for masked in (False, True):
        model = tiny("ForXVector", masked_group_norm=masked, tdnn_dilation=(1, 1, 1))
        values = waveforms()
        with torch.no_grad():
            assert relative(model(values, torch.ones_like(values)).embeddings, model(values).embeddings) <= 1e-5


# ---- attention, precision, memory ---------------------------------------------------------------------------------


@pytest.mark.parametrize("norm", NORMS)
def test_both_attention_kernels_agree(norm):
    model = tiny(**NORMS[norm])
    values, mask = padded()
    with torch.no_grad():
        explicit = model(values, mask, output_attentions=True)
        fused = model(values, mask)
    assert relative(explicit.last_hidden_state, fused.last_hidden_state) <= 1e-5
    weights = explicit.attentions[0]
    assert weights.shape == (3, 4, FRAMES, FRAMES)
    assert torch.allclose(weights.sum(-1), torch.ones(()), atol=1e-5)
    assert not weights[2, :, :, 40:].any()  # 700 samples are 34 frames


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("norm", NORMS)
def test_half_precision(norm, masked, dtype):
    model = tiny("ForCTC", masked_group_norm=masked, **NORMS[norm])
    values, mask = padded()
    labels = torch.randint(1, 11, (3, 5), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        wide = model(values, mask, labels=labels, output_attentions=True)
        model.to(dtype)
        narrow = model(values, mask, labels=labels, output_attentions=True)  # inputs are cast, masks need not be
    assert narrow.logits.dtype == dtype
    assert narrow.loss.dtype == torch.float32
    assert relative(narrow.logits.float(), wide.logits) <= 4e-2
    assert relative(narrow.loss, wide.loss) <= 2e-2


@pytest.mark.parametrize("channels", [2, 8, 15, 16, 48])
@pytest.mark.parametrize("autocast", [False, True])
def test_groups_of_any_width_in_bfloat16(channels, autocast):
    x, weight = torch.randn(2, 4 * channels, 30).bfloat16(), torch.randn(4 * channels, channels, 8).bfloat16()
    bias = torch.randn(4 * channels).bfloat16()
    exact = layers.grouped_conv1d(x.double(), weight.double(), bias.double(), 4)
    assert exact.shape == (2, 4 * channels, 31)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        given = (x.float(), weight.float(), bias.float()) if autocast else (x, weight, bias)
        found = layers.grouped_conv1d(*given, 4)
    assert relative(found.double(), exact) <= 1e-2


def test_group_norm_statistics_do_not_overflow_in_half_precision():
    norm = layers.ChannelGroupNorm(2).half()
    values = 300 * torch.randn(1, 2, 4000, generator=torch.Generator().manual_seed(0)).half()  # squares exceed 65504
    lengths = torch.tensor([3000])
    assert relative(norm(values, lengths).float(), norm.float()(values.float(), lengths)) <= 1e-2


@pytest.mark.parametrize("head", ["Model", "ForCTC"])
def test_checkpointing_changes_no_number(head):
    """In float64, with dropout and masks: what is computed again drops what was dropped the first time."""
    model = tiny(head, attention_dropout=0.2, activation_dropout=0.3).double().train()
    values, mask = padded()

    def gradients():
        torch.manual_seed(7)
        model.zero_grad()
        model(values.double(), mask, output_hidden_states=True)[0].square().sum().backward()
        return {name: value.grad.clone() for name, value in model.named_parameters() if value.grad is not None}

    plain = gradients()
    largest = max(gradient.abs().max() for gradient in plain.values())
    model.gradient_checkpointing_enable()
    assert model.is_gradient_checkpointing
    calls = []
    layer = model.get_submodule("encoder.layers.0" if head == "Model" else "wav2vec2.encoder.layers.0")
    handle = layer.register_forward_pre_hook(lambda *_: calls.append(1))
    saved = gradients()
    assert len(calls) == 2  # forward, and again in the backward pass
    handle.remove()
    assert plain.keys() == saved.keys()
    for name, gradient in plain.items():
        assert (saved[name] - gradient).abs().max() <= 1e-10 * largest, name
    model.gradient_checkpointing_disable()
    assert not model.is_gradient_checkpointing


@pytest.mark.parametrize("head", ["ForPreTraining", "ForCTC", "ForXVector"])
def test_autocast_training_step(head):
    model = tiny(head).train()
    if head == "ForPreTraining":
        mask = torch.rand(3, FRAMES) < 0.5
        negatives = masking.negative_indices(mask.numpy(), 5, np.random.default_rng(0))
        call = {"mask_time_indices": mask, "sampled_negative_indices": torch.from_numpy(negatives)}
    else:
        call = {"labels": torch.ones(3, 4, dtype=torch.long) if head == "ForCTC" else torch.tensor([0, 1, 2])}
    with torch.autocast("cpu", torch.bfloat16):
        loss = model(waveforms(), **call).loss
    assert loss.dtype == torch.float32
    loss.backward()
    assert all(torch.isfinite(value.grad).all() for value in model.parameters() if value.grad is not None)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_models_can_be_pickled_and_copied(activation):
    model = tiny("ForCTC", hidden_act=activation, feat_extract_activation=activation)
    with torch.no_grad():
        expected = model(waveforms()).logits
        for other in (pickle.loads(pickle.dumps(model)), copy.deepcopy(model)):
            assert torch.equal(other(waveforms()).logits, expected)


@pytest.mark.parametrize("masks", [False, True])
def test_distributed_training_finds_every_gradient(masks, tmp_path):
    """With layer drop and one process; a step fails where the one before left a parameter without gradient."""
    model = tiny("ForCTC", layerdrop=0.5, apply_spec_augment=masks).train()
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        _steps_in_parallel(model)
    finally:
        torch.distributed.destroy_process_group()
    assert all(parameter.grad is not None for parameter in model.parameters() if parameter.requires_grad)


def _steps_in_parallel(model):
    # The wrapper must be gone before its process group is destroyed. It would be the last to hold the group, and end
    # gloo's threads (PyTorch 2.13) while it holds the interpreter's lock, which one of them may be waiting for.
    parallel = torch.nn.parallel.DistributedDataParallel(model)
    for _ in range(3):
        parallel(waveforms(), labels=torch.ones(3, 4, dtype=torch.long)).loss.backward()


# ---- randomness ---------------------------------------------------------------------------------------------------


def test_torchs_seed_governs_training_mode():
    model = tiny(mask_feature_prob=0.2, layerdrop=0.5, num_hidden_layers=4).train()
    values, mask = padded()
    first, second = (_seeded(model, values, mask, seed=3) for _ in range(2))
    assert torch.equal(first, second)
    assert not torch.equal(first, _seeded(model, values, mask, seed=4))


def _seeded(model, values, mask, seed):
    torch.manual_seed(seed)
    return model(values, mask).last_hidden_state


def test_dropped_layers_change_nothing_and_use_every_parameter():
    model = tiny(num_hidden_layers=3, **QUIET, apply_spec_augment=False).train()
    keep = torch.tensor([True, False, True])
    output = model(waveforms(), output_hidden_states=True, layer_keep=keep)
    assert len(output.hidden_states) == 4
    assert torch.equal(output.hidden_states[1], output.hidden_states[2])
    assert not torch.equal(output.hidden_states[2], output.hidden_states[3])
    output.last_hidden_state.square().sum().backward()
    dropped = model.encoder.layers[1].feed_forward.output_dense.weight.grad
    assert dropped is not None  # distributed training waits for every gradient
    assert not dropped.any()


def test_layers_are_dropped_at_the_configured_rate():
    model = tiny(num_hidden_layers=8, **{**QUIET, "layerdrop": 0.25}, apply_spec_augment=False).train()
    torch.manual_seed(0)
    dropped = 0
    for _ in range(40):
        states = model(waveforms(1, 200), output_hidden_states=True).hidden_states
        dropped += sum(torch.equal(before, after) for before, after in itertools.pairwise(states))
    assert 50 <= dropped <= 110  # 80 expected of 320, deviation 7.7


def test_the_last_norm_follows_a_dropped_layer():
    model = tiny(**{**QUIET, **NORMS["layer-pre"]})
    output = model(waveforms(), layer_keep=torch.tensor([True, False]), output_hidden_states=True)
    first, second, last = output.hidden_states
    assert torch.equal(last, output.last_hidden_state)
    assert torch.equal(last, model.encoder.layer_norm(second))
    assert relative(second, first) > 0.01


@pytest.mark.parametrize("mixed", [True, False])
def test_mixed_states_are_those_before_the_adapter(mixed):
    model = tiny("ForXVector", add_adapter=True, num_adapter_layers=1, use_weighted_layer_sum=mixed)
    values, mask = padded()
    frames = [74, 59, 34] if mixed else [37, 30, 17]
    assert model.frame_lengths(mask).tolist() == frames
    assert model.encode(values, mask, None)[0].shape[1] == frames[0]


def test_masked_frames_lose_their_content():
    model = tiny("ForPreTraining")
    mask = torch.zeros(3, FRAMES, dtype=torch.bool)
    mask[:, 10:30] = True
    body = model.wav2vec2
    hidden = torch.randn(3, FRAMES, 32)
    features = torch.zeros(3, 32, dtype=torch.bool)
    features[:, 4] = True
    masked = body.mask_hidden_states(hidden, mask, features)
    assert torch.equal(masked[:, 10:30, :4], body.masked_spec_embed[:4].expand(3, 20, 4))
    assert torch.equal(masked[:, :10, 5:], hidden[:, :10, 5:])
    assert not masked[:, :, 4].any()


def test_drawn_masks_stay_within_utterances():
    frames = torch.tensor([FRAMES, 59, 34])
    time, feature, keep = tiny(mask_time_prob=0.9, layerdrop=0.0).draw_missing(3, FRAMES, frames, None, None, None)
    assert time.any(1).all()
    assert not time[2, 34:].any()
    assert feature is keep is None
    time, feature, _ = tiny(mask_feature_prob=0.9, mask_time_prob=0.0).draw_missing(3, 9, None, None, None, None)
    assert time is None
    assert feature.any(1).all()
    given = torch.zeros(3, FRAMES, dtype=torch.bool)
    assert tiny().draw_missing(3, FRAMES, frames, given, None, None)[0] is given
    assert tiny(apply_spec_augment=False).draw_missing(3, FRAMES, frames, None, None, None)[:2] == (None, None)


def test_draws_follow_the_configuration():
    torch.manual_seed(0)

    def draw(fields, lengths):
        frames = torch.from_numpy(lengths)
        drawn = tiny(**fields).draw_missing(len(lengths), FRAMES, frames, None, None, None)
        return [None if mask is None else mask.numpy() for mask in drawn]

    check_draws(draw)
    model = tiny(**{**QUIET, "layerdrop": 0.3}, mask_time_prob=0.0)
    check_layer_drop(lambda fields, lengths: model.draw_missing(1, FRAMES, None, None, None, None), 2)


def test_masks_are_drawn_in_training_mode_only():
    model = tiny(**QUIET, mask_time_prob=0.9)
    values = waveforms()
    with torch.no_grad():
        clean = model(values).last_hidden_state
        assert torch.equal(model(values).last_hidden_state, clean)
        assert not torch.equal(model.train()(values).last_hidden_state, clean)


def test_gumbel_choice_follows_the_noise_in_training_and_the_logits_in_eval_mode():
    model = tiny("ForPreTraining")
    noise = torch.zeros(3, FRAMES, 2, 8)
    noise[..., 5] = 1e6
    quantizer = model.quantizer.train()
    features = torch.randn(3, FRAMES, 24)
    chosen, *_ = quantizer(features, None, noise)
    codebook = model.quantizer.codevectors.view(2, 8, 8)
    assert torch.allclose(chosen, codebook[:, 5].flatten().expand(3, FRAMES, 16), atol=1e-5)
    first, (_, hard), _ = quantizer.eval()(features, None, noise)
    assert torch.equal(first, quantizer(features, None)[0])
    assert 2 < float(hard.sum()) <= 16


# ---- options of the call ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("head", HEADS)
def test_configured_outputs(head):
    model = tiny(head, output_hidden_states=True, output_attentions=True)
    with torch.no_grad():
        output = model(waveforms())
        assert isinstance(output, ModelOutput)
        assert len(output.hidden_states) == 3
        assert len(output.attentions) == 2
        plain = tiny(head, return_dict=False)(waveforms())
    assert isinstance(plain, tuple)
    assert all(isinstance(value, torch.Tensor) for value in plain)


def test_pretraining_loss_is_the_weighted_sum():
    model = tiny("ForPreTraining", diversity_loss_weight=0.3)
    mask = torch.zeros(3, FRAMES, dtype=torch.bool)
    mask[:, 5:40] = True
    negatives = torch.from_numpy(masking.negative_indices(mask.numpy(), 7, np.random.default_rng(0)))
    with torch.no_grad():
        output = model(waveforms(), None, mask, negatives)
        without = model(waveforms(), None, mask)
    assert output.contrastive_loss > 0
    assert output.diversity_loss > 0
    assert relative(output.loss, output.contrastive_loss + 0.3 * output.diversity_loss) <= 1e-6
    assert without.loss is None
    assert torch.equal(without.projected_states, output.projected_states)


def test_ctc_loss_of_a_padded_batch_is_that_of_its_utterances():
    model = tiny("ForCTC", masked_group_norm=True)
    values, mask = padded()
    labels = torch.tensor([[1, 2, 3], [4, 5, -100], [6, 6, 6]])
    with torch.no_grad():
        together = model(values, mask, labels=labels).loss
        alone = sum(
            model(values[row : row + 1, :length], labels=labels[row : row + 1]).loss
            for row, length in enumerate(LENGTHS)
        )
    assert relative(together, alone) <= 1e-5


def test_layer_weights_choose_the_state_that_the_head_reads():
    model = tiny("ForAudioFrameClassification", use_weighted_layer_sum=True)
    with torch.no_grad():
        for chosen in range(3):
            model.layer_weights.fill_(-1e4)[chosen] = 0.0
            output = model(waveforms())
            assert relative(output.logits, model.classifier(output.hidden_states[chosen])) <= 1e-6


def test_freezing():
    model = tiny("ForCTC")
    model.freeze_feature_encoder()
    frozen = {name for name, value in model.named_parameters() if not value.requires_grad}
    assert frozen
    assert all(name.startswith("wav2vec2.feature_extractor.") for name in frozen)
    model.freeze_base_model()
    free = {name for name, value in model.named_parameters() if value.requires_grad}
    assert free == model.trainable_names() == {"lm_head.weight", "lm_head.bias"}


def test_what_is_trained_is_said_by_name():
    model = tiny("ForCTC")
    table = set(model.parameter_table())
    model.freeze_base_model()
    model.set_trainable({"lm_head.bias", "wav2vec2.masked_spec_embed"})
    free = {name for name, value in model.named_parameters() if value.requires_grad}
    assert free == model.trainable_names() == {"lm_head.bias", "wav2vec2.masked_spec_embed"}
    model.set_trainable(table)
    assert model.trainable_names() == table
    with pytest.raises(InputError, match=r"lm_head\.gain is no parameter of a Wav2Vec2ForCTC"):
        model.set_trainable({"lm_head.gain"})
    assert model.trainable_names() == table
    unused = tiny("ForCTC", apply_spec_augment=False)
    unused.set_trainable(table)
    assert not unused.wav2vec2.masked_spec_embed.requires_grad


def test_parameters_from_outside_are_left_alone():
    model = tiny("ForCTC")
    model.lm_head.register_parameter("low_rank", torch.nn.Parameter(torch.zeros(2)))
    model.freeze_base_model()
    model.set_trainable(set())
    assert [name for name, value in model.named_parameters() if value.requires_grad] == ["lm_head.low_rank"]


def test_gumbel_temperature_can_be_set():
    model = tiny("ForPreTraining")
    model.set_gumbel_temperature(0.5)
    assert model.quantizer.temperature == 0.5


# ---- bad input ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((2, 0), r"input_values has 0 samples, one frame sees 30: pad with zeros"),
        ((2, 29), r"input_values has 29 samples, one frame sees 30"),
        ((0, 400), r"input_values has shape \(0, 400\): give at least one utterance"),
        ((400,), r"input_values has shape \(400,\), it must be \(batch, samples\)"),
        ((1, 1, 400), r"input_values has shape \(1, 1, 400\), it must be \(batch, samples\)"),
    ],
)
@pytest.mark.parametrize("head", HEADS)
def test_wrong_waveforms(head, shape, message):
    with pytest.raises(InputError, match=message):
        tiny(head)(torch.zeros(shape))


def test_399_samples_at_the_released_sizes():
    config = {"conv_dim": (8,) * 7, "conv_kernel": Wav2Vec2Config().conv_kernel}
    model = tiny(**config, conv_stride=Wav2Vec2Config().conv_stride)
    with pytest.raises(InputError, match="has 399 samples, one frame sees 400"):
        model(torch.zeros(1, 399))
    assert model(torch.zeros(1, 400)).last_hidden_state.shape == (1, 1, 32)


def test_wrong_masks():
    model, values = tiny(), waveforms()
    with pytest.raises(InputError, match=r"attention_mask has shape \(3, 74\), input_values has \(3, 1500\)"):
        model(values, torch.ones(3, FRAMES))
    mask = torch.ones(3, SAMPLES)
    mask[1, 20:] = 0
    with pytest.raises(InputError, match="attention_mask has a row with 20 samples, one frame sees 30"):
        model(values, mask)
    with pytest.raises(InputError, match=r"mask_time_indices has shape \(3, 73\), it must be \(3, 74\)"):
        model(values, mask_time_indices=torch.zeros(3, 73, dtype=torch.bool))
    with pytest.raises(InputError, match=r"mask_feature_indices has shape \(3, 74\), it must be \(3, 32\)"):
        model(values, mask_feature_indices=torch.zeros(3, FRAMES, dtype=torch.bool))
    with pytest.raises(InputError, match=r"layer_keep has shape \(3,\), it must be \(2,\), \(layers,\)"):
        model(values, layer_keep=torch.ones(3, dtype=torch.bool))
    with pytest.raises(InputError, match=r"gumbel_noise has shape \(2, 8\), it must be \(3, 74, 2, 8\)"):
        tiny("ForPreTraining").train()(values, gumbel_noise=torch.zeros(2, 8))
    with pytest.raises(InputError, match="such a model has no mask embedding"):
        tiny(mask_time_prob=0.0)(values, mask_time_indices=torch.zeros(3, FRAMES, dtype=torch.bool))


def test_wrong_labels():
    values = waveforms()
    with pytest.raises(InputError, match="labels hold the value 11, the limit is 10: use the model's tokenizer"):
        tiny("ForCTC")(values, labels=torch.tensor([[1, 11], [1, 2], [1, -100]]))
    with pytest.raises(InputError, match=r"labels has shape \(2, 4\), it must be \(3, 4\)"):
        tiny("ForCTC")(values, labels=torch.ones(2, 4, dtype=torch.long))
    for head in ("ForSequenceClassification", "ForXVector"):
        with pytest.raises(InputError, match="labels hold the value 5, the limit is 4: set num_labels"):
            tiny(head)(values, labels=torch.tensor([1, 5, 0]))
    with pytest.raises(InputError, match=r"labels has shape \(3, 74\), it must be \(3, 74, 5\)"):
        tiny("ForAudioFrameClassification")(values, labels=torch.zeros(3, FRAMES, dtype=torch.long))
    for shape in ((3,), (), (3, 4, 1)):
        with pytest.raises(InputError, match=r"labels has shape .* it must be \(3,.*\(batch, letters\)"):
            tiny("ForCTC")(values, labels=torch.ones(shape, dtype=torch.long))
    for blank in (None, 11, -1):
        with pytest.raises(ConfigError, match=rf"pad_token_id={blank} is the blank of the CTC loss"):
            tiny("ForCTC", pad_token_id=blank)(values, labels=torch.ones(3, 4, dtype=torch.long))


def test_wrong_pretraining_input():
    values, negatives = waveforms(), torch.zeros(3, FRAMES, 4, dtype=torch.long)
    mask = torch.ones(3, FRAMES, dtype=torch.bool)
    with pytest.raises(InputError, match="without mask_time_indices"):
        tiny("ForPreTraining")(values, sampled_negative_indices=negatives)
    with pytest.raises(InputError, match=r"sampled_negative_indices has shape \(3, 9, 4\), it must be \(3, 74, 4\)"):
        tiny("ForPreTraining")(values, None, mask, negatives[:, :9])
    with pytest.raises(InputError, match="pretrain with add_adapter=False"):
        tiny("ForPreTraining", add_adapter=True)(values, None, mask, negatives)


def test_x_vectors_need_enough_frames():
    model = tiny("ForXVector")  # kernels 3, 2, 1 with dilations 1, 2, 1 lose 4 frames
    with pytest.raises(InputError, match="has 5 frames, the x-vector network needs 6"):
        model(waveforms(1, 115))
    assert torch.isfinite(model(waveforms(1, 135)).embeddings).all()


def test_shapes_that_cannot_work_are_refused_at_construction():
    config = Wav2Vec2Config(add_adapter=True, output_hidden_size=512)
    for cls in (Wav2Vec2ForPreTraining, Wav2Vec2ForXVector):
        with pytest.raises(ConfigError, match=r"output_hidden_size=512 .* differs from hidden_size=768"):
            cls(config)
    with pytest.raises(ConfigError, match="add_adapter=True does not work with ForSequenceClassification"):
        Wav2Vec2ForSequenceClassification(config)


def test_errors_are_one_line():
    with pytest.raises(InputError) as caught:
        tiny()(torch.zeros(2, 3, 4))
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value, ValueError)


def test_numpy_float64_input_is_cast():
    values = torch.from_numpy(np.random.default_rng(0).standard_normal((1, 400)))
    assert tiny()(values).last_hidden_state.dtype == torch.float32
