"""The reference of the conformance suite against transformers 4.57.6 in double precision."""

import dataclasses

import numpy as np
import pytest
import torch
import transformers
from model_cases import MEASURES

from conformance import cases, reference, transformers_model

pytestmark = pytest.mark.oracle

#: Largest difference relative to the largest value: both sides compute in float64.
STAGE = LOSS = 1e-10
GRADIENT = 1e-9
TINY = cases.tiny_cases()
#: What transformers computes too.
SHARED = [case for case in TINY if case.is_shared]
#: What it computes of a recording alone; it has no head with tanh.
ALONE = [case for case in TINY if case.config.masked_group_norm and case.config.classifier_head != "tanh"]


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def relative(ours, theirs):
    assert ours.shape == theirs.shape
    return float(np.abs(ours - theirs).max() / max(np.abs(theirs).max(), 1e-30))


def compare(ours, theirs, limit):
    """Every stage that either side has, in the order of the computation, so that the first wrong one is named."""
    assert set(ours) == set(theirs)
    for name, value in ours.items():
        error = relative(value, theirs[name])
        assert error <= limit, f"{name}: {error:.2e}"


def test_version():
    assert transformers.__version__ == transformers_model.VERSION


@pytest.mark.parametrize("case", SHARED, ids=lambda case: case.name)
def test_inference(case):
    theirs, _ = transformers_model.run(case, training=False)
    ours = reference.forward(case.config, case.head, case.parameters(), **case.inputs())
    compare({name: value for name, value in ours.items() if name not in MEASURES}, theirs, STAGE)


@pytest.mark.parametrize("case", SHARED, ids=lambda case: case.name)
def test_training_step(case):
    theirs, their_gradients = transformers_model.run(case, training=True)
    ours, gradients = reference.gradients(
        case.config, case.head, case.parameters(), **case.inputs(), labels=case.labels(), randomness=case.randomness()
    )
    skipped = [name for name in ours if name not in theirs and name not in MEASURES]
    assert all("encoder.layers.0" in name for name in skipped)  # transformers does not call a layer that it drops
    compare({name: value for name, value in ours.items() if name in theirs}, theirs, STAGE)
    assert set(gradients) == set(their_gradients)
    for name in set(gradients) - set(case.unseen()):
        error = relative(gradients[name], their_gradients[name])
        assert error <= GRADIENT, f"{name}: {error:.2e}"
    for name in case.unseen():
        scale = np.abs(their_gradients[name.removesuffix("bias") + "weight"]).max()
        assert np.abs(gradients[name]).max() <= 1e-10 * max(scale, 1.0), name


@pytest.mark.parametrize("case", ALONE, ids=lambda case: case.name)
def test_padding_changes_nothing_where_the_configuration_says_so(case):
    """``masked_group_norm``, which transformers lacks: each utterance is what transformers makes of it alone."""
    parameters = case.parameters()
    model = transformers_model.build(case.config, case.head, parameters)
    together = reference.forward(case.config, case.head, parameters, **case.inputs())
    values = torch.from_numpy(case.inputs()["input_values"]).double()
    for row, length in enumerate(case.lengths):
        with torch.no_grad(), transformers_model.recorded(model, case.config) as alone:
            output = model(values[row : row + 1, :length])
        alone |= {name: output[name].numpy() for name in ("logits", "embeddings") if name in output}
        assert len(alone) >= 15
        for name, array in alone.items():
            expected = array[0]
            ours = together[name][row]
            if expected.ndim > 1:
                ours = ours[: len(expected)]  # the batch has frames of padding after it
            assert relative(ours, expected) <= STAGE, name


@pytest.mark.parametrize("head", ["ForPreTraining", "ForCTC", "Model"])
@pytest.mark.parametrize("family", ["base", "mms"])
def test_dropout(head, family, monkeypatch):
    """Every dropout at its place: masks that transformers draws are given to the reference."""
    case = cases.find(f"{head}-{family}-padded")
    rates = ("hidden", "activation", "attention", "feat_proj", "feat_quantizer", "final")
    dropouts = {f"{name}_dropout": 0.1 + 0.02 * place for place, name in enumerate(rates)}
    case = dataclasses.replace(case, config=case.config.replace(**dropouts))
    drawn = {}
    build, dropout = transformers_model.build, torch.nn.functional.dropout

    def build_noting(*arguments):
        model = build(*arguments)
        for name, module in model.named_modules():
            if isinstance(module, torch.nn.Dropout):
                module.register_forward_pre_hook(lambda _, __, name=name: pending.append(name))
        return model

    def noted_dropout(x, p=0.5, training=True, inplace=False):
        name = pending.pop() if pending else f"encoder.layers.{next(layers)}.attention.dropout"
        mask = dropout(torch.ones_like(x), p, training)
        drawn[name.removeprefix("wav2vec2.")] = mask.numpy()
        return x * mask

    pending = []
    kept = np.flatnonzero(case.randomness().layer_keep)
    layers = iter(kept)
    monkeypatch.setattr(transformers_model, "build", build_noting)
    monkeypatch.setattr(torch.nn.functional, "dropout", noted_dropout)
    theirs, their_gradients = transformers_model.run(case, training=True)
    dropped = [name for name, mask in drawn.items() if (mask == 0).any()]
    assert len(dropped) >= 2 + 4 * len(kept)
    randomness = dataclasses.replace(case.randomness(), dropout=drawn)
    ours, gradients = reference.gradients(
        case.config, head, case.parameters(), **case.inputs(), labels=case.labels(), randomness=randomness
    )
    compare({name: value for name, value in ours.items() if name in theirs}, theirs, STAGE)
    for name in set(gradients) - set(case.unseen()):
        assert relative(gradients[name], their_gradients[name]) <= GRADIENT, name


@pytest.mark.parametrize(
    "case", [cases.find("ForCTC-base-even"), cases.find("ForXVector-mms-padded")], ids=lambda c: c.name
)
def test_a_wrong_parameter_is_noticed_where_it_is_used(case):
    """A parameter off by 1 % of its size makes the first stage that depends on it differ, and none before."""
    parameters = case.parameters()
    theirs, _ = transformers_model.run(case, training=False)
    for name in ("feature_extractor.conv_layers.1.conv.weight", "encoder.layers.1.attention.v_proj.bias"):
        wrong = {**parameters, f"wav2vec2.{name}": parameters[f"wav2vec2.{name}"] * np.float32(1.01)}
        ours = reference.forward(case.config, case.head, wrong, **case.inputs())
        first = next(stage for stage, value in ours.items() if relative(value, theirs[stage]) > STAGE)
        assert first == ".".join(name.split(".")[:-2])
