"""What training on a processor does in its own way: attention in blocks, dropout, and gradients in bfloat16."""

import pytest
import torch
from torch.nn import functional as F

from wav2vec2_torch import block_attention, layers
from wav2vec2_torch.dropout import Dropout, kept

LENGTHS = (6, 3, 5)


def attention_arguments(dtype=torch.float64, frames=6):
    generator = torch.Generator().manual_seed(0)
    shape = 3, frames, 2, 4
    return [
        torch.randn(shape, dtype=dtype, generator=generator).transpose(1, 2).detach().requires_grad_() for _ in range(3)
    ]


def valid(x):
    """The same with zeros in the frames that are padding."""
    return x * layers.frame_mask(torch.tensor(LENGTHS), x.shape[2])[:, None, :, None]


@pytest.mark.parametrize("block", [1, 100, 1 << 19])
def test_attention_in_blocks_is_attention(block, monkeypatch):
    monkeypatch.setattr(block_attention, "BLOCK", block)
    arguments = attention_arguments()
    mask = layers.frame_mask(torch.tensor(LENGTHS), 6)
    expected = F.scaled_dot_product_attention(*arguments, attn_mask=mask[:, None, None])
    found = block_attention.attend(*arguments, LENGTHS, 0.0, 0)
    torch.testing.assert_close(valid(found), valid(expected))


@pytest.mark.parametrize("block", [1, 1 << 19])
@pytest.mark.parametrize("dropout", [0.0, 0.4, 1.0])
def test_attention_in_blocks_has_the_gradient_of_what_it_computes(dropout, block, monkeypatch):
    monkeypatch.setattr(block_attention, "BLOCK", block)
    torch.autograd.gradcheck(
        lambda *given: valid(block_attention.attend(*given, LENGTHS, dropout, 3)), attention_arguments()
    )


def test_attention_weights_are_dropped_one_by_one():
    """Of equal weights and values of one, what stays grows by 1 / (1 - p): the mean is one."""
    query = torch.zeros(2, 4, 128, 16)
    context = block_attention.attend(query, query, torch.ones_like(query), [128, 128], 0.25, 0)[..., 0]
    share = context * 0.75
    assert share.mean().item() == pytest.approx(0.75, abs=0.005)
    assert share.std().item() == pytest.approx((0.75 * 0.25 / 128) ** 0.5, rel=0.1)
    assert not torch.equal(context[0], context[1])


@pytest.mark.parametrize(
    ("dtype", "dropout", "in_blocks"),
    [(torch.float32, 0.1, True), (torch.bfloat16, 0.0, True), (torch.float32, 0.0, False)],
)
def test_training_takes_the_faster_attention(dtype, dropout, in_blocks, monkeypatch):
    called = []
    monkeypatch.setattr(block_attention, "BLOCK", 100)
    monkeypatch.setattr(block_attention, "attend", lambda query, *_: called.append(query) or query)
    query, key, value = (one.detach().to(dtype).requires_grad_() for one in attention_arguments())
    layers.attend(query, key, value, None, dropout, False)
    assert bool(called) == in_blocks
    with torch.no_grad():
        layers.attend(query, key, value, None, dropout, False)
    assert len(called) == int(in_blocks)


def test_what_is_dropped_follows_torch_s_seed(monkeypatch):
    monkeypatch.setattr(block_attention, "BLOCK", 100)
    arguments = [one.detach().float().requires_grad_() for one in attention_arguments()]

    def drawn(seed):
        torch.manual_seed(seed)
        return layers.attend(*arguments, None, 0.3, False)[0], Dropout(0.3)(arguments[0])

    first, again, other = drawn(1), drawn(1), drawn(2)
    assert all(map(torch.equal, first, again))
    assert not any(map(torch.equal, first, other))


@pytest.mark.parametrize("p", [0.1, 0.5])
def test_dropout_keeps_the_mean_and_its_gradient(p):
    torch.manual_seed(0)
    x = torch.ones(400, 401, requires_grad=True)
    y = Dropout(p)(x)
    y.sum().backward()
    assert y.unique().tolist() == [0.0, pytest.approx(1 / (1 - p))]
    assert y.mean().item() == pytest.approx(1.0, abs=0.01)
    assert torch.equal(x.grad, y)
    assert Dropout(p).eval()(x) is x
    assert not Dropout(1.0)(x).any()


def test_bits_of_all_four_elements_are_uniform():
    dropped = ~kept((250_000, 4), 0.3, torch.Generator().manual_seed(0))
    shares = dropped.float().mean(0)
    torch.testing.assert_close(shares, torch.full((4,), 0.3), atol=0.005, rtol=0)


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("kind", [layers.LayerNorm, layers.ChannelLayerNorm])
def test_layer_norms_add_up_gradients_of_many_frames_in_bfloat16(kind, autocast):
    """The wrong sums of PyTorch 2.13 would be off by a third."""
    generator = torch.Generator().manual_seed(0)
    x, gradient = (torch.randn(1, 100_000, 8, generator=generator).bfloat16() for _ in range(2))
    if kind is layers.ChannelLayerNorm:
        x, gradient = x.transpose(1, 2), gradient.transpose(1, 2)
    gradient = gradient + 0.1
    norm = kind(8) if autocast else kind(8).bfloat16()
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        y = norm(x)
    assert y.dtype == torch.bfloat16
    y.backward(gradient)
    exact = kind(8).double()
    exact(x.double()).backward(gradient.double())
    for found, expected in ((norm.weight, exact.weight), (norm.bias, exact.bias)):
        assert (found.grad.double() - expected.grad).norm() < 0.01 * expected.grad.norm()


def test_gradients_of_convolutions_read_no_memory_that_nothing_wrote():
    """Kernel 8, stride 4, three frames that none reads: PyTorch 2.13 with AMX has NaN, where memory was full of it."""
    generator = torch.Generator().manual_seed(0)
    conv = layers.Conv1d(64, 128, 8, 4, bias=False)
    x = torch.randn(4, 64, 1_111, generator=generator)
    expected = conv(x)
    expected.sum().backward()
    exact, conv.weight.grad = conv.weight.grad, None
    rounds = 6
    for _ in range(rounds):
        for size in (1 << 20, 1 << 18, 1 << 16, 1 << 14):
            torch.full((size,), float("nan"), dtype=torch.bfloat16)
        with torch.autocast("cpu", torch.bfloat16):
            y = conv(x)
        assert y.shape == expected.shape
        y.sum().backward()
    assert (conv.weight.grad / rounds - exact).norm() < 0.01 * exact.norm()
