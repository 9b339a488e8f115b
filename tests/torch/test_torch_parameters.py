"""Names, shapes and first values of the parameters: those of the table, for any configuration."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_models import TINY, model_class, tiny

from wav2vec2_core.config import Wav2Vec2Config
from wav2vec2_core.errors import ConfigError, ParameterMismatchError
from wav2vec2_core.parameters import HEADS, initial_values, parameter_table
from wav2vec2_torch import Wav2Vec2ForCTC, Wav2Vec2Model, layers
from wav2vec2_torch.weights import export_weights, fill_weights, to_array, to_tensor


@st.composite
def configs(draw):
    small = st.integers(1, 4)
    convolutions, tdnn = draw(small), draw(small)
    hidden = 8 * draw(small)
    return Wav2Vec2Config(
        vocab_size=draw(st.integers(1, 40)),
        hidden_size=hidden,
        num_hidden_layers=draw(st.integers(0, 3)),
        num_attention_heads=draw(st.sampled_from([1, 2, 4])),
        intermediate_size=draw(st.integers(1, 20)),
        conv_dim=tuple(draw(st.integers(1, 9)) for _ in range(convolutions)),
        conv_kernel=tuple(draw(st.integers(1, 5)) for _ in range(convolutions)),
        conv_stride=tuple(draw(small) for _ in range(convolutions)),
        conv_bias=draw(st.booleans()),
        feat_extract_norm=draw(st.sampled_from(["group", "layer"])),
        do_stable_layer_norm=draw(st.booleans()),
        num_conv_pos_embeddings=draw(st.integers(1, 9)),
        num_conv_pos_embedding_groups=draw(st.sampled_from([1, 2, 4])),
        mask_time_prob=draw(st.sampled_from([0.0, 0.1])),
        mask_feature_prob=draw(st.sampled_from([0.0, 0.1])),
        num_codevector_groups=draw(st.sampled_from([1, 2])),
        num_codevectors_per_group=draw(small),
        codevector_dim=2 * draw(small),
        proj_codevector_dim=draw(small),
        use_weighted_layer_sum=draw(st.booleans()),
        classifier_proj_size=draw(small),
        num_labels=draw(small),
        tdnn_dim=tuple(draw(small) for _ in range(tdnn)),
        tdnn_kernel=tuple(draw(small) for _ in range(tdnn)),
        tdnn_dilation=tuple(draw(small) for _ in range(tdnn)),
        xvector_output_dim=draw(small),
        add_adapter=draw(st.booleans()),
        adapter_kernel_size=draw(small),
        num_adapter_layers=draw(st.integers(0, 3)),
        output_hidden_size=draw(st.sampled_from([None, hidden, 12])),
        adapter_attn_dim=draw(st.sampled_from([None, 3])),
    )


@settings(max_examples=150, deadline=None, derandomize=True)
@given(config=configs(), head=st.sampled_from(HEADS))
def test_the_state_dict_is_the_table(config, head):
    try:
        with torch.device("meta"):
            model = model_class(head)(config)
    except ConfigError:
        assert config.add_adapter
        assert head not in {"Model", "ForCTC"}
        return
    shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    assert shapes == {name: row.shape for name, row in parameter_table(config, head).items()}


@pytest.mark.parametrize("head", HEADS)
def test_first_values_come_from_the_core_and_torchs_seed(head):
    config = Wav2Vec2Config(**TINY)
    torch.manual_seed(7)
    model = model_class(head)(config)
    torch.manual_seed(7)
    expected = dict(initial_values(parameter_table(config, head), layers.draw_seed()))
    assert model.training
    for name, value in model.state_dict().items():
        assert np.array_equal(value.numpy(), expected[name]), name
    another = model_class(head)(config)
    assert not torch.equal(another.state_dict()[next(iter(expected))], model.state_dict()[next(iter(expected))])


def test_default_dtype_and_device_are_followed():
    config = Wav2Vec2Config(**TINY)
    torch.set_default_dtype(torch.float64)
    try:
        assert {parameter.dtype for parameter in Wav2Vec2Model(config).parameters()} == {torch.float64}
    finally:
        torch.set_default_dtype(torch.float32)
    with torch.device("meta"):
        assert all(parameter.is_meta for parameter in Wav2Vec2ForCTC(config).parameters())
    assert not any(parameter.is_meta for parameter in Wav2Vec2ForCTC(config).parameters())


def test_weights_go_out_and_in():
    first, second = tiny("ForCTC"), tiny("ForCTC", seed=1)
    weights = export_weights(first)
    assert list(weights) == list(first.state_dict())
    assert weights["lm_head.bias"].__array_interface__["data"][0] == first.lm_head.bias.data_ptr()
    parameter = second.lm_head.bias
    fill_weights(second, weights.items())
    assert second.lm_head.bias is parameter  # an optimizer that holds it goes on working
    assert second.lm_head.weight.data_ptr() != first.lm_head.weight.data_ptr()
    for name, value in first.state_dict().items():
        assert torch.equal(second.state_dict()[name], value)


def test_bfloat16_arrays_are_exact():
    values = torch.randn(5, 7).bfloat16()
    array = to_array(values)
    assert array.dtype.name == "bfloat16"
    assert np.array_equal(array.astype(np.float32), values.float().numpy())
    assert torch.equal(to_tensor(array), values)


def test_arrays_of_any_layout_are_taken():
    values = np.random.default_rng(0).standard_normal((4, 6)).astype(np.float32)
    values.flags.writeable = False
    for array in (values, values.T, values[::-1]):
        assert np.array_equal(to_tensor(array).numpy(), array)


def test_filling_checks_names_and_shapes():
    model = tiny()
    with pytest.raises(ParameterMismatchError, match=r"'encoder.nothing' is not one of Wav2Vec2Model's"):
        fill_weights(model, [("encoder.nothing", np.zeros(3))])
    with pytest.raises(ParameterMismatchError, match=r"'masked_spec_embed' has shape \(32,\), the given array \(3,\)"):
        fill_weights(model, [("masked_spec_embed", np.zeros(3))])
