"""torch.compile and torch.export give the numbers of eager mode."""

import numpy as np
import pytest
import torch
from torch.export import Dim, export
from torch_models import NORMS, QUIET, VARIANTS, relative, tiny, waveforms

from wav2vec2_core.masking import negative_indices
from wav2vec2_core.parameters import HEADS

FAMILIES = {
    "base": NORMS["group-post"],
    "base-exact": {**NORMS["group-post"], "masked_group_norm": True},
    "large": {**NORMS["layer-pre"], **VARIANTS["attention-adapters"]},
}
#: The heads share the body, whose graph takes the time.
OTHERS = [head for head in HEADS if head not in ("ForCTC", "ForPreTraining")]
CASES = [
    *((head, "base-exact") for head in ("ForCTC", "ForPreTraining")), ("ForCTC", "base"), ("ForCTC", "large"),
    *(pytest.param(head, "base-exact", marks=pytest.mark.rare) for head in OTHERS),
]  # fmt: skip


def padded(batch, samples):
    mask = torch.ones(batch, samples, dtype=torch.long)
    mask[-1, samples // 2 :] = 0
    return waveforms(batch, samples), mask


def assert_same(compiled, eager):
    assert type(compiled) is type(eager)
    assert list(compiled) == list(eager)
    for name, value in eager.items():
        pairs = [(compiled[name], value)] if torch.is_tensor(value) else zip(compiled[name], value, strict=True)
        assert all(relative(one, other) <= 1e-5 for one, other in pairs), name


@pytest.fixture(autouse=True)
def _fresh_compiler():
    torch.compiler.reset()
    yield
    torch.compiler.reset()


@pytest.mark.parametrize(("head", "family"), CASES)
def test_compile_in_one_graph(head, family):
    """The graph is captured completely and run as it is: code generation is torch's business."""
    model = tiny(head, **FAMILIES[family])
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    with torch.no_grad():
        for call in ((waveforms(2, 800),), padded(3, 1000)):
            assert_same(compiled(*call, output_hidden_states=True), model(*call, output_hidden_states=True))


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")  # torch looks at it between graphs
def test_compiled_training_step():
    """Masks and dropped layers are drawn between graphs; losses and gradients are those of eager mode."""
    model = tiny("ForCTC", **QUIET | {"mask_feature_prob": 0.1, "layerdrop": 0.3}).train()
    values, mask = padded(3, 1000)
    labels = torch.tensor([[1, 2, 3], [4, 5, -100], [6, 7, 8]])
    gradients = []
    for step in (model, torch.compile(model, backend="aot_eager")):
        model.zero_grad()
        torch.manual_seed(0)
        loss = step(values, mask, labels=labels).loss
        loss.backward()
        gradients.append((loss.detach(), model.lm_head.weight.grad.clone()))
    for eager, compiled in zip(*gradients, strict=True):
        assert relative(compiled, eager) <= 1e-5


def test_training_step_in_one_graph_with_given_randomness():
    model = tiny("ForPreTraining", **QUIET, mask_feature_prob=0.1).train()
    values, mask = padded(3, 1000)
    frames = model.config.num_frames(1000)
    generator = torch.Generator().manual_seed(0)
    time = torch.rand(3, frames, generator=generator) < 0.4
    time[-1, frames // 2 :] = False
    call = {
        "attention_mask": mask,
        "mask_time_indices": time,
        "sampled_negative_indices": torch.from_numpy(negative_indices(time.numpy(), 5, np.random.default_rng(0))),
        "mask_feature_indices": torch.rand(3, 32, generator=generator) < 0.2,
        "layer_keep": torch.tensor([True, False]),
        "gumbel_noise": torch.randn(3, frames, 2, 8, generator=generator),
    }
    gradients = []
    for step in (model, torch.compile(model, fullgraph=True, backend="aot_eager")):
        model.zero_grad()
        loss = step(values, **call).loss
        loss.backward()
        gradients.append((loss.detach(), model.quantizer.weight_proj.weight.grad.clone()))
    for eager, compiled in zip(*gradients, strict=True):
        assert relative(compiled, eager) <= 1e-5


def check_export(head, family, call_of):
    """call_of: (batch, samples) -> arguments."""
    model = tiny(head, **FAMILIES[family], num_hidden_layers=1)
    size = {0: Dim("batch", min=1), 1: Dim("samples", min=300)}
    call = call_of(2, 800)
    program = export(model, call, dynamic_shapes=(size,) * len(call), strict=False)
    with torch.no_grad():
        for shape in ((5, 1111), (1, 300)):
            assert_same(program.module()(*call_of(*shape)), model(*call_of(*shape)))


@pytest.mark.parametrize(("head", "family"), CASES)
def test_export_with_any_batch_and_length(head, family):
    check_export(head, family, padded)


def test_export_without_a_mask():
    check_export("ForCTC", "base", lambda batch, samples: (waveforms(batch, samples),))


@pytest.mark.parametrize("variant", ["adapter", "wide-adapter"])
def test_export_with_convolutional_adapter(variant):
    model = tiny("ForCTC", **VARIANTS[variant], num_hidden_layers=1, masked_group_norm=True)
    size = {0: Dim("batch"), 1: Dim("samples", min=400)}
    program = export(model, padded(2, 1500), dynamic_shapes=(size, size), strict=False)
    with torch.no_grad():
        assert_same(program.module()(*padded(4, 2001)), model(*padded(4, 2001)))
