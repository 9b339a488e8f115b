"""A case computed by transformers 4.57.6 in double precision: stages, losses, gradients. Needs torch and transformers.

transformers computes some things in float32 whatever the model's type, and draws what training needs where it needs
it. Both are changed for the time of a call: ``float()`` and ``dtype=torch.float32`` keep double precision, and masks,
layer drop and Gumbel noise are those of the case.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import numpy as np

from conformance import reference
from conformance.cases import OURS, Case
from conformance.reference_body import Randomness
from wav2vec2_core.config import Wav2Vec2Config
from wav2vec2_core.parameters import BODY_PREFIX
from wav2vec2_core.weight_files.checkpoint import canonical_name

VERSION = "4.57.6"
_MODELING = "transformers.models.wav2vec2.modeling_wav2vec2"
#: Modules whose results have their channels before their frames.
_CHANNELS_FIRST = ("feature_extractor.conv_layers.", "adapter.layers.")


def build(config: Wav2Vec2Config, head: str, parameters: Mapping[str, np.ndarray]) -> Any:
    """``transformers.Wav2Vec2<head>`` in double precision, in evaluation mode, with these parameters, every one."""
    import torch
    import transformers

    fields = {name: value for name, value in config.to_dict().items() if name not in {*OURS, "dtype"}}
    theirs = transformers.Wav2Vec2Config(**fields)
    theirs._attn_implementation = "eager"
    model = getattr(transformers, f"Wav2Vec2{head}")(theirs).double().eval()
    names = {canonical_name(name): name for name in model.state_dict()}
    if names.keys() != parameters.keys():
        raise ValueError(f"transformers has other parameters: {sorted(names.keys() ^ parameters.keys())}")
    values = {names[name]: torch.from_numpy(np.array(array, np.float64)) for name, array in parameters.items()}
    model.load_state_dict(values, strict=True)
    return model


def run(case: Case, *, training: bool) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Stages as in ``reference.forward`` and, of a training step, the gradients as in ``reference.gradients``."""
    import torch

    model = build(case.config, case.head, case.parameters()).train(training)
    call = {name: torch.from_numpy(array) for name, array in case.inputs().items()}
    call["input_values"] = call["input_values"].double()
    randomness = case.randomness() if training else Randomness()
    labels = case.labels() if training else None
    if labels is not None:
        call["labels"] = torch.from_numpy(labels)
    if case.head == "ForPreTraining" and randomness.mask_time_indices is not None:
        call["mask_time_indices"] = torch.from_numpy(randomness.mask_time_indices)
        if randomness.sampled_negative_indices is not None:
            call["sampled_negative_indices"] = torch.from_numpy(randomness.sampled_negative_indices)
        model.set_gumbel_temperature(randomness.gumbel_temperature)
    with (
        double_precision(),
        given(model, randomness),
        recorded(model, case.config) as stages,
        torch.set_grad_enabled(training),
    ):
        output = model(**call, output_hidden_states=case.config.use_weighted_layer_sum)
        gradients = _gradients(model, case, output) if training else {}
    for name in ("logits", "embeddings", "loss", "contrastive_loss", "diversity_loss", "codevector_perplexity"):
        if output.get(name) is not None:
            stages[name] = output[name].detach().numpy()
    return stages, gradients


def _gradients(model: Any, case: Case, output: Any) -> dict[str, np.ndarray]:
    import torch

    def probed(name: str) -> Any:
        return (output[name] * torch.from_numpy(reference.probe(tuple(output[name].shape)))).sum()

    if case.has_loss:
        objective = output["loss"].sum()
    elif case.head == "Model":
        objective = probed("last_hidden_state")
    else:
        objective = probed("projected_states") + probed("projected_quantized_states") + output["codevector_perplexity"]
    objective.backward()
    return {
        canonical_name(name): (torch.zeros_like(parameter) if parameter.grad is None else parameter.grad).numpy()
        for name, parameter in model.named_parameters()
    }


# ---- for the time of a call -------------------------------------------------------------------------------------


@contextmanager
def double_precision() -> Iterator[None]:
    """Keep double-precision values from being cast to float32."""
    import torch
    from torch.nn import functional

    log_softmax, narrow = functional.log_softmax, torch.Tensor.float

    def keep(tensor: Any) -> Any:
        return tensor if tensor.dtype == torch.float64 else narrow(tensor)

    def wide_log_softmax(tensor: Any, dim: int, dtype: Any = None) -> Any:
        return log_softmax(tensor, dim=dim, dtype=tensor.dtype)

    with mock.patch.object(torch.Tensor, "float", keep), mock.patch.object(functional, "log_softmax", wide_log_softmax):
        yield


@contextmanager
def given(model: Any, randomness: Randomness) -> Iterator[None]:
    """Make a model in training mode use these draws instead of its own."""
    import torch
    from torch.nn import functional

    def masks(shape: tuple[int, int], **options: Any) -> np.ndarray:
        of_time = "attention_mask" in options
        chosen = randomness.mask_time_indices if of_time else randomness.mask_feature_indices
        assert chosen is not None
        assert chosen.shape == shape
        return chosen

    def gumbel_softmax(logits: Any, tau: float, hard: bool) -> Any:
        assert hard
        assert randomness.gumbel_noise is not None
        noise = torch.from_numpy(randomness.gumbel_noise).double().reshape(logits.shape)
        soft = ((logits + noise) / tau).softmax(-1)
        choice = torch.zeros_like(soft).scatter_(-1, soft.argmax(-1, keepdim=True), 1.0)
        return choice - soft.detach() + soft  # in this order the chosen entry is exactly 1

    keep = randomness.layer_keep
    patches: list[Any] = [
        mock.patch(f"{_MODELING}._compute_mask_indices", masks),
        mock.patch.object(functional, "gumbel_softmax", gumbel_softmax),
    ]
    if keep is not None:
        # A layer is skipped where a uniform draw is below layerdrop; nothing else draws such scalars.
        model.config.layerdrop = 0.5
        patches.append(mock.patch.object(torch, "rand", mock.Mock(side_effect=[torch.tensor(float(k)) for k in keep])))
    with ExitStack() as stack:
        for patch in patches:
            stack.enter_context(patch)
        yield


@contextmanager
def recorded(model: Any, config: Wav2Vec2Config) -> Iterator[dict[str, np.ndarray]]:
    """Fills a dictionary with the stages of a call, by hooks on the modules that they are called after."""
    stages: dict[str, np.ndarray] = {}
    hooks = []

    def note(name: str, value: Any) -> None:
        array = value.detach().numpy().copy()  # the model masks in place
        stages[name] = array.transpose(0, 2, 1) if name.startswith(_CHANNELS_FIRST) else array

    def on_result(name: str) -> Callable[..., None]:
        def hook(_: Any, __: Any, output: Any) -> None:
            note(name, output[0] if isinstance(output, tuple) else getattr(output, "last_hidden_state", output))

        return hook

    def on_input(module: Any, name: str) -> None:
        hooks.append(module.register_forward_pre_hook(lambda _, args, kwargs: note(name, args[0]), with_kwargs=True))

    for name, module in model.named_modules():
        stage = name.removeprefix(BODY_PREFIX)
        if _is_stage(stage, name):
            hooks.append(module.register_forward_hook(on_result(stage)))
        if stage == "encoder":
            on_input(module, "masked")
    classifier, head = getattr(model, "classifier", None), type(model).__name__
    if head.endswith("XVector"):
        on_input(model.feature_extractor, "pooled")
    elif head.endswith("SequenceClassification"):
        on_input(classifier, "pooled")
    if config.use_weighted_layer_sum:
        on_input(classifier if head.endswith("FrameClassification") else model.projector, "layer_weights")
    try:
        yield stages
    finally:
        for hook in hooks:
            hook.remove()


def _is_stage(stage: str, name: str) -> bool:
    """Whether the result of the module ``name``, ``stage`` without the body's prefix, is a stage of the reference."""
    parts = stage.split(".")
    match parts:
        case ["feature_extractor", "conv_layers", _] | ["adapter", "layers", _] | ["encoder", "layers", _]:
            return True
        case ["encoder", "layers", _, "attention" | "feed_forward" | "adapter_layer"]:
            return True
        case ["feature_projection"] | ["feature_projection", "layer_norm"]:
            return True
        case ["encoder"] | ["encoder", "pos_conv_embed" | "dropout"]:
            return True
        case ["project_hid" | "project_q" | "quantizer" | "projector"] | ["tdnn", _]:
            return stage == name
    return False
