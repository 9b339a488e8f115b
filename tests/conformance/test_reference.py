"""The reference itself, without any framework: its gradients, its losses by brute force, and recorded results."""

import itertools

import numpy as np
import pytest

from conformance import autodiff, cases, golden, reference, xfails
from conformance import reference_layers as layers
from conformance import reference_losses as losses
from conformance.autodiff import Tensor
from conformance.tolerances import TOLERANCES, relative_error, tolerance
from wav2vec2_core.errors import CheckpointError, InputError
from wav2vec2_core.parameters import HEADS, parameter_table

TINY = cases.tiny_cases()
RECORDED = [case for case in TINY if case.is_shared]


def numbers(*shape, seed=0, low=None):
    values = np.random.default_rng(seed).standard_normal(shape)
    return values if low is None else np.abs(values) + low


# ---- differentiation ------------------------------------------------------------------------------------------------

MASK = np.array([[True, False, True], [False, False, True]])
OPERATIONS = {
    "add": lambda x, y: x + y,
    "add-number": lambda x, y: 2.0 + x + 1.0,
    "subtract": lambda x, y: (x - y) + (1.0 - x),
    "multiply": lambda x, y: x * y * x,
    "divide": lambda x, y: x / y + 1.0 / y,
    "negate": lambda x, y: -x,
    "array-first": lambda x, y: np.ones((2, 3)) * x + np.ones((4, 2, 3)) - y,
    "broadcast": lambda x, y: x.reshape(1, 2, 3) * y.sum(0),
    "matmul": lambda x, y: x @ y.transpose(1, 0) @ x,
    "matmul-broadcast": lambda x, y: concatenated(x, y).reshape(2, 2, 3) @ y.transpose(1, 0),
    "square": lambda x, y: x.square(),
    "sums": lambda x, y: x.sum(0) * x.sum(1, keepdims=True) + x.mean() + x.mean((0, 1)),
    "slice": lambda x, y: x[:, 1:] * y[:, :2],
    "gather": lambda x, y: x[np.array([1, 0, 1, 1])] * 3.0,
    "exp-log": lambda x, y: autodiff.exp(x) + autodiff.log(y),
    "sqrt-tanh": lambda x, y: autodiff.sqrt(y) + autodiff.tanh(x),
    "erf": lambda x, y: autodiff.erf(x),
    "where": lambda x, y: autodiff.where(MASK, x * y, 5.0) + autodiff.where(MASK, 1.0, y),
    "concatenate": lambda x, y: concatenated(x, y).square(),
    "windows": lambda x, y: autodiff.windows(x.reshape(1, 6, 1), 3, 2, 1) * 2.0,
    "windows-dilated": lambda x, y: autodiff.windows(autodiff.pad_frames(x.reshape(1, 6, 1), 2), 3, 1, 2).square(),
    "softmax": lambda x, y: layers.softmax(x).square() + layers.log_softmax(y),
    "conv": lambda x, y: layers.conv1d(
        x.reshape(1, 3, 2), y.reshape(2, 1, 3), y[0, :2], padding=2, groups=2
    ).square(),
    "norms": lambda x, y: layers.layer_norm(x, y[0], y[1]) + layers.weight_norm(
        y.reshape(1, 1, 6), (x * y).reshape(1, 1, 6)
    ).reshape(2, 3),
    **{name: lambda x, y, f=f: f(x * 3.0) for name, f in layers.ACTIVATIONS.items()},
}  # fmt: skip


def concatenated(x, y):
    return autodiff.concatenate([x, y], 0)


@pytest.mark.parametrize("name", OPERATIONS)
def test_gradients_of_operations(name):
    """Against central differences of every value; y stays positive."""
    values = [numbers(2, 3, seed=1), numbers(2, 3, seed=2, low=0.5)]
    weights = numbers(*OPERATIONS[name](*map(Tensor, values)).shape, seed=3)

    def total(arrays):
        return float((OPERATIONS[name](*map(Tensor, arrays)).data * weights).sum())

    leaves = [Tensor(value, tracked=True) for value in values]
    (OPERATIONS[name](*leaves) * weights).sum().backward()
    step = 1e-6
    for which, leaf in enumerate(leaves):
        expected = np.zeros((2, 3))
        for place in np.ndindex(2, 3):
            moved = [np.array(values) for _ in range(2)]
            moved[0][which][place] += step
            moved[1][which][place] -= step
            expected[place] = (total(moved[0]) - total(moved[1])) / (2 * step)
        found = np.zeros((2, 3)) if leaf.gradient is None else leaf.gradient
        assert np.abs(found - expected).max() <= 1e-7 * max(1.0, np.abs(expected).max())


def test_square_root_of_zero_has_no_gradient():
    x = Tensor(np.array([0.0, 4.0]), tracked=True)
    autodiff.sqrt(x).sum().backward()
    np.testing.assert_array_equal(x.gradient, [0.0, 0.25])


def test_untracked_tensors_keep_nothing():
    x = Tensor(np.ones(3)) * 2.0
    assert not x.tracked
    assert not x._inputs


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("family", ["base", "mms"])
def test_gradients_of_models(head, family):
    """Against central differences along a random direction of each parameter."""
    case = cases.find(f"{head}-{family}-padded")
    parameters = {name: array.astype(np.float64) for name, array in case.parameters().items()}
    arguments = {**case.inputs(), "labels": case.labels(), "randomness": case.randomness()}
    _, gradients = reference.gradients(case.config, head, parameters, **arguments)
    assert set(gradients) == set(parameters)
    if head == "ForPreTraining":
        # Finite differences do not see the gradient that passes straight through the choice of a codevector.
        beyond = ("quantizer.weight_proj", "feature_extractor", "feature_projection.layer_norm")
        parameters = {name: array for name, array in parameters.items() if not any(part in name for part in beyond)}

    def objective(name, array):
        stages = reference.forward(case.config, head, {**parameters_all, name: array}, **arguments)
        if case.has_loss:
            return float(stages["loss"])
        states = stages["encoder"]
        return float((states * reference.probe(states.shape)).sum())

    parameters_all = {**case.parameters(), **parameters}
    for name, array in parameters.items():
        direction = numbers(*array.shape, seed=5) / np.sqrt(array.size)
        step = 1e-5
        slope = (objective(name, array + step * direction) - objective(name, array - step * direction)) / (2 * step)
        scale = max(np.linalg.norm(gradients[name]) / np.sqrt(array.size), 1e-3)
        assert abs((gradients[name] * direction).sum() - slope) <= 1e-6 * max(scale, abs(slope), 1.0), name


def test_gradients_need_a_loss():
    case = cases.find("ForCTC-base-even")
    with pytest.raises(InputError, match="ForCTC has no loss without labels"):
        reference.gradients(case.config, case.head, case.parameters(), **case.inputs())


# ---- losses -----------------------------------------------------------------------------------------------------


def spelled(path, blank):
    return tuple(letter for letter, _ in itertools.groupby(path) if letter != blank)


@pytest.mark.parametrize("letters", [(), (1,), (1, 2), (2, 2), (1, 2, 1)])
@pytest.mark.parametrize("blank", [0, 2])
def test_ctc_counts_every_path(letters, blank):
    if blank in letters:
        letters = tuple(0 if letter == blank else letter for letter in letters)
    logits = numbers(2, 5, 3)
    labels = np.full((2, 6), -1)
    labels[:, 1 : 1 + len(letters)] = letters  # padding before and after
    lengths = np.array([5, 4])
    found = losses.ctc_loss(Tensor(logits), lengths, labels, blank=blank, reduction="none", zero_infinity=False).data
    probabilities = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    for row, length in enumerate(lengths):
        total = sum(
            np.prod([probabilities[row, frame, letter] for frame, letter in enumerate(path)])
            for path in itertools.product(range(3), repeat=int(length))
            if spelled(path, blank) == letters
        )
        assert found[row] == pytest.approx(-np.log(total), rel=1e-12)


def test_ctc_gradient():
    logits, labels, lengths = numbers(2, 7, 4), np.array([[1, 1, 3], [2, -1, -1]]), np.array([7, 5])

    def loss(values):
        leaf = Tensor(values, tracked=True)
        result = losses.ctc_loss(leaf, lengths, labels, blank=0, reduction="mean", zero_infinity=False)
        return leaf, result

    leaf, result = loss(logits)
    result.backward()
    assert not leaf.gradient[1, 5:].any()
    for place in [(0, 0, 1), (0, 3, 0), (0, 6, 3), (1, 2, 2), (1, 4, 0), (1, 4, 3)]:
        step = np.zeros_like(logits)
        step[place] = 1e-6
        slope = (loss(logits + step)[1].data - loss(logits - step)[1].data) / 2e-6
        assert leaf.gradient[place] == pytest.approx(slope, abs=1e-8)


def test_ctc_without_a_path():
    logits, labels = numbers(2, 3, 4), np.array([[1, 1, 2], [1, 2, -1]])
    options = {"blank": 0, "reduction": "none"}
    assert np.isinf(losses.ctc_loss(Tensor(logits), np.array([3, 3]), labels, zero_infinity=False, **options).data[0])
    leaf = Tensor(logits, tracked=True)
    loss = losses.ctc_loss(leaf, np.array([3, 3]), labels, zero_infinity=True, **options)
    loss.sum().backward()
    assert loss.data[0] == 0
    assert loss.data[1] > 0
    assert not leaf.gradient[0].any()
    assert leaf.gradient[1].any()


def test_same_codevectors_do_not_compete():
    target = numbers(1, 2, 3)
    negatives = np.stack([target[:, ::-1], target], axis=2)  # the other frame's, and the own
    same = np.array([[[False, True], [False, True]]])
    arguments = Tensor(numbers(1, 2, 3, seed=1)), Tensor(target)
    both = losses.contrastive_loss(*arguments, Tensor(negatives), same, np.ones((1, 2), bool), 0.1)
    one = losses.contrastive_loss(*arguments, Tensor(negatives[:, :, :1]), same[:, :, :1], np.ones((1, 2), bool), 0.1)
    assert both.data == pytest.approx(one.data, rel=1e-12)
    assert both.data > 0


def test_perplexity_of_equal_and_of_single_codes():
    equal = Tensor(np.full((2, 3, 2, 4), 0.25))
    single = Tensor(np.broadcast_to(np.eye(4)[0], (2, 3, 2, 4)))
    assert losses.codevector_perplexities(equal, None).data.sum() == pytest.approx(8, abs=1e-4)
    assert losses.codevector_perplexities(single, np.ones((2, 3), bool)).data.sum() == pytest.approx(2, abs=1e-4)


# ---- cases --------------------------------------------------------------------------------------------------------


def test_cases_are_deterministic_and_differ():
    assert len({case.name for case in TINY}) == len(TINY)
    assert {case.head for case in TINY} == set(HEADS)
    prints = [golden.fingerprint(case) for case in TINY]
    assert prints == [golden.fingerprint(cases.find(case.name)) for case in TINY]
    assert len(set(prints)) == len(prints)
    with pytest.raises(KeyError):
        cases.find("ForCTC-base")


@pytest.mark.parametrize("case", TINY, ids=lambda case: case.name)
def test_every_parameter_counts(case):
    """Each has a gradient, but for those in exact arithmetic out of sight, of skipped layers, and unused."""
    assert all(array.dtype == np.float32 for array in case.parameters().values())
    stages, gradients = reference.gradients(
        case.config, case.head, case.parameters(), **case.inputs(), labels=case.labels(), randomness=case.randomness()
    )
    assert ("loss" in stages) == case.has_loss
    quiet = {name for name, gradient in gradients.items() if np.abs(gradient).max() < 1e-9}
    expected = set(case.unseen())
    if not case.randomness().layer_keep.all():
        expected |= {name for name in gradients if ".layers.0." in name and "encoder" in name}
    if not case.config.apply_spec_augment:
        expected.add("wav2vec2.masked_spec_embed")
    assert quiet == expected
    assert all(np.isfinite(gradient).all() for gradient in gradients.values())


@pytest.mark.parametrize("case", [c for c in TINY if c.head == "ForPreTraining"], ids=lambda case: case.name)
def test_choices_of_codevectors_are_clear(case):
    """float32 must not choose another one than float64: the best score leads by more than its error."""
    parameters, config = case.parameters(), case.config
    stages = reference.forward(config, case.head, parameters, **case.inputs())
    features = stages["feature_projection.layer_norm"]
    scores = features @ parameters["quantizer.weight_proj.weight"].T.astype(np.float64)
    scores = (scores + parameters["quantizer.weight_proj.bias"]).reshape(case.randomness().gumbel_noise.shape)
    for noise in (0.0, case.randomness().gumbel_noise):
        ranked = np.sort(scores + noise, axis=-1)
        assert (ranked[..., -1] - ranked[..., -2]).min() > 1e-4


# ---- recorded results -----------------------------------------------------------------------------------------------


def test_everything_that_transformers_computes_is_recorded():
    expected = {case.name for case in [*RECORDED, *cases.full_size_cases()]}
    assert set(golden.recorded_names()) == expected


@pytest.mark.parametrize("case", RECORDED, ids=lambda case: case.name)
def test_recorded_results(case):
    recorded, parameters = golden.load(case), case.parameters()
    inference = reference.forward(case.config, case.head, parameters, **case.inputs())
    training, gradients = reference.gradients(
        case.config, case.head, parameters, **case.inputs(), labels=case.labels(), randomness=case.randomness()
    )
    assert set(recorded.inference) == set(golden.recorded_stages(case, inference))
    assert ("loss" in recorded.training) == case.has_loss
    for ours, theirs in ((inference, recorded.inference), (training, recorded.training)):
        for name, array in theirs.items():
            what = "golden arrays" if array.dtype == np.float32 else "golden"
            limit = tolerance(what, dtype="float64").limit
            assert relative_error(ours[name], array.astype(np.float64)) <= limit, name
    assert set(recorded.gradient_norms) == set(gradients)
    scale = max(recorded.gradient_norms.values())
    for name, norm in recorded.gradient_norms.items():
        assert abs(np.linalg.norm(gradients[name]) - norm) <= tolerance("golden", dtype="float64").limit * scale, name


def test_a_case_that_draws_other_numbers_is_refused(monkeypatch):
    case = cases.find("ForCTC-base-even")
    monkeypatch.setattr(golden, "fingerprint", lambda _: 1)
    with pytest.raises(CheckpointError, match="other parameters or inputs"):
        golden.load(case)


def test_a_case_that_is_not_recorded_is_refused():
    with pytest.raises(InputError, match="not recorded"):
        golden.load(cases.find("ForCTC-base-alone-padded"))


# ---- tables -----------------------------------------------------------------------------------------------------


def test_relative_error():
    expected = np.array([1.0, -4.0, np.inf])
    assert relative_error(np.array([1.0, -4.0, np.inf]), expected) == 0
    assert relative_error(np.array([1.0, -3.0, np.inf]), expected) == 0.25
    assert relative_error(np.array([1.0, np.nan, np.inf]), expected) == np.inf
    assert relative_error(np.array([1.0, -4.0, 3.0]), expected) == np.inf
    assert relative_error(np.zeros(0), np.zeros(0)) == 0
    with pytest.raises(ValueError, match="shape"):
        relative_error(np.zeros(2), np.zeros(3))


def test_every_tolerance_has_a_reason_and_holds():
    for row in TOLERANCES.values():
        assert row.reason
        assert all(error <= row.limit for error in row.measured.values())
    with pytest.raises(KeyError):
        tolerance("stages", "huge")


def test_expected_failures_are_checks(monkeypatch):
    monkeypatch.setattr(xfails, "XFAILS", {"tf/stages/ForCTC-base-even": "a reason"})
    xfails.check_known({"tf/stages/ForCTC-base-even"})
    with pytest.raises(InputError, match="is no check"):
        xfails.check_known({"tf/stages/ForCTC-base-padded"})
    monkeypatch.setattr(xfails, "XFAILS", {"tf/stages/ForCTC-base-even": " "})
    with pytest.raises(InputError, match="has no reason"):
        xfails.check_known({"tf/stages/ForCTC-base-even"})


def test_parameters_follow_the_table():
    for case in TINY:
        shapes = {name: row.shape for name, row in parameter_table(case.config, case.head).items()}
        assert {name: array.shape for name, array in case.parameters().items()} == shapes
