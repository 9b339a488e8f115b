"""Every head and option of wav2vec2_tf against PyTorch, transformers' and ours: outputs, losses, gradients."""

import inspect

import numpy as np
import pytest
import tensorflow as tf
import torch
import transformers
from tf_pairs import compare, make_pair, relative, to_tf, torch_model
from torch_head_cases import CASES, GRADIENT, LOGITS, LOSS, fields_of, ids, scalar, training_call
from torch_head_cases import shared_noise as shared_noise
from torch_pairs import waveforms
from transformers.activations import ACT2FN

import wav2vec2_tf
from wav2vec2_core.config import ACTIVATIONS, Wav2Vec2Config
from wav2vec2_core.parameters import HEADS
from wav2vec2_core.weight_files.checkpoint import canonical_name
from wav2vec2_tf import layers
from wav2vec2_tf.weights import find_variable

pytestmark = pytest.mark.oracle


@pytest.fixture(autouse=True)
def _one_thread():
    torch.manual_seed(0)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def run(model, training=False, **call):
    return model(**to_tf(call), training=training)


@pytest.mark.parametrize("masked", [False, True], ids=["full", "padded"])
@pytest.mark.parametrize("case", CASES, ids=ids)
def test_outputs(case, masked):
    head, *options = case
    theirs, ours = make_pair(head, **fields_of(*options))
    call = waveforms(masked)
    with torch.no_grad():
        reference = theirs(**call, output_attentions=True, output_hidden_states=True)
        sibling = torch_model(theirs, head, fields_of(*options))(**call, output_hidden_states=True)
    output = run(ours, **call, output_attentions=True, output_hidden_states=True)
    compare(output, reference, LOGITS)
    compare({name: value for name, value in output.items() if name != "attentions"}, sibling, LOGITS)


@pytest.mark.parametrize("case", CASES, ids=ids)
def test_graph(case):
    """One graph for any batch and length, with and without padding."""
    head, *options = case
    theirs, ours = make_pair(head, **fields_of(*options), num_hidden_layers=2)

    @tf.function(input_signature=[tf.TensorSpec((None, None)), tf.TensorSpec((None, None), tf.int64)])
    def graph(input_values, attention_mask):
        return ours(input_values, attention_mask, output_hidden_states=True, output_attentions=True)

    call = waveforms(masked=True)
    for length in (1500, 1203):
        part = {name: value[:, :length] for name, value in call.items()}
        with torch.no_grad():
            reference = theirs(**part, output_hidden_states=True, output_attentions=True)
        compare(graph(**to_tf(part)), reference, LOGITS)


def tf_scalar(output):
    """``scalar`` for TensorFlow."""
    if output.get("loss") is not None:
        return output["loss"]
    states = output.get("last_hidden_state")
    if states is not None:
        return tf.reduce_sum(states * tf.reshape(tf.linspace(-1.0, 1.0, tf.size(states)), tf.shape(states)))
    products = tf.reduce_sum(output["projected_states"] ** 2) + tf.reduce_sum(output["projected_quantized_states"] ** 3)
    return products + output["codevector_perplexity"]


def gradient_errors(ours, gradients, theirs):
    """As ``gradient_error`` of the PyTorch tests; ``gradients`` by checkpoint name, in the checkpoint's layout."""
    invisible = ["k_proj.bias"]
    if ours.config.feat_extract_norm == "group":
        invisible.append("conv_layers.0.conv.bias")
    reference = {canonical_name(name): parameter.grad for name, parameter in theirs.named_parameters()}
    errors = {}
    for name, gradient in gradients.items():
        expected = reference[name]
        if expected is None or gradient is None:
            present = gradient if expected is None else expected.numpy()
            assert present is None or not present.any(), name
            continue
        scale = expected.abs().max()
        if name.endswith(tuple(invisible)):
            scale = reference[name.removesuffix("bias") + "weight"].abs().max()
        if scale == 0:
            assert not gradient.any(), name
            continue
        errors[name] = float(np.abs(gradient - expected.numpy()).max() / scale)
    return errors


def take_gradients(ours, step):
    """The outputs of ``step()`` and the gradients of its scalar, by checkpoint name and in the checkpoint's layout."""
    found = {name: find_variable(ours, name) for name in ours.parameter_table()}
    with tf.GradientTape() as tape:
        output = step()
        target = tf_scalar(output)
    raw = tape.gradient(target, [variable.value for variable, _ in found.values()])
    gradients = {}
    for (name, (_, axes)), gradient in zip(found.items(), raw, strict=True):
        array = None if gradient is None else tf.convert_to_tensor(gradient).numpy()
        gradients[name] = array if array is None or not axes else array.transpose(axes)
    return output, gradients


@pytest.mark.parametrize("masked", [False, True], ids=["full", "padded"])
@pytest.mark.parametrize("case", CASES, ids=ids)
def test_training_step(case, masked, shared_noise):
    head, *options = case
    draws_itself = head not in {"Model", "ForPreTraining"}
    theirs, ours = make_pair(head, **fields_of(*options), apply_spec_augment=not draws_itself)
    theirs.train()
    call, extra = training_call(head, ours, masked, shared_noise)
    reference = theirs(**call)
    scalar(reference).backward()
    output, gradients = take_gradients(ours, lambda: run(ours, training=True, **call, **extra))
    compare(output, reference, LOSS)
    errors = gradient_errors(ours, gradients, theirs)
    assert len(errors) > 20
    name = max(errors, key=errors.__getitem__)
    assert errors[name] <= GRADIENT, f"{name}: {errors[name]:.2e}"


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations(name):
    theirs, ours = make_pair("Model", feat_extract_activation=name, hidden_act=name, num_hidden_layers=1)
    call = waveforms(True)
    with torch.no_grad():
        compare(run(ours, **call, output_hidden_states=True), theirs(**call, output_hidden_states=True), LOGITS)
        extreme = torch.linspace(-20, 20, 4001)
        assert relative(layers.activation(name)(tf.constant(extreme.numpy())), ACT2FN[name](extreme)) <= 1e-6


@pytest.mark.filterwarnings("ignore:(?s).*its loss is infinite:UserWarning")
@pytest.mark.parametrize("reduction", ["sum", "mean"])
@pytest.mark.parametrize("zero_infinity", [False, True])
def test_ctc_options(reduction, zero_infinity):
    fields = {"ctc_loss_reduction": reduction, "ctc_zero_infinity": zero_infinity, "pad_token_id": 3}
    theirs, ours = make_pair("ForCTC", **fields)
    call = waveforms(True)
    labels = torch.randint(4, 11, (3, 40))  # more letters than the last utterance has frames
    labels[0, 10:] = -100
    labels[1, ::2] = -1  # padding anywhere
    with torch.no_grad():
        one, other = run(ours, **call, labels=labels).loss, theirs(**call, labels=labels).loss
    assert torch.isfinite(other) == zero_infinity
    assert np.isinf(one) == np.isinf(other.numpy())
    assert np.isinf(one) or relative(one, other) <= LOSS


def test_signatures_are_theirs():
    """Positional arguments have their names and order; what is ours alone is keyword-only."""
    for head in HEADS:
        theirs = inspect.signature(getattr(transformers, f"Wav2Vec2{head}").forward).parameters
        ours = inspect.signature(getattr(wav2vec2_tf, f"TFWav2Vec2{head}").call).parameters
        positional = [name for name, item in ours.items() if item.kind is not item.KEYWORD_ONLY]
        assert positional == list(theirs)


@pytest.mark.slow
@pytest.mark.parametrize("family", ["base", "large-lv60"])
def test_full_size(family, tmp_path):
    """Checkpoints of the released sizes, with random biases and norms, in one graph: 1e-4 of the largest logit."""
    fields = {name: value for name, value in Wav2Vec2Config.preset(family).to_dict().items() if name != "architectures"}
    theirs = transformers.Wav2Vec2ForCTC(transformers.Wav2Vec2Config(**fields)).eval()
    with torch.no_grad():
        for parameter in theirs.parameters():
            if parameter.dim() == 1:
                parameter.add_(0.1 * torch.randn_like(parameter))
    theirs.save_pretrained(tmp_path)
    ours = wav2vec2_tf.TFWav2Vec2ForCTC.from_pretrained(tmp_path)
    values, mask = torch.randn(2, 24_000), torch.ones(2, 24_000, dtype=torch.long)
    mask[1, 15_000:] = 0
    with torch.no_grad():
        reference = theirs(values * mask, attention_mask=mask).logits
    assert relative(tf.function(ours)((values * mask).numpy(), mask.numpy()).logits, reference) <= 1e-4
