"""The PyTorch back end behind the interface of ``conformance.backends``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

import wav2vec2_torch
from conformance.backends import (
    ABILITIES,
    MOMENTUM,
    PROBED,
    Arrays,
    has_loss,
    output_arrays,
    run_steps,
    targets_of,
)
from conformance.recording import CHANNELS_FIRST, Recorder, module_paths, watched_calls, watched_methods
from conformance.reference import probe
from wav2vec2_core.config import Wav2Vec2Config
from wav2vec2_torch import block_attention, layers
from wav2vec2_torch.dropout import Dropout
from wav2vec2_torch.train import Trainer
from wav2vec2_torch.weights import export_weights, fill_weights, to_array


def open_on(device: str) -> TorchBackend:
    """The back end on one of ``wav2vec2_torch.inference.devices()``; float32 stays float32."""
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    torch.set_float32_matmul_precision("highest")
    return TorchBackend(device)


class TorchBackend:
    """Builds and loads models."""

    name = "torch"
    modes, file_kinds = ABILITIES["torch"]

    def __init__(self, device: str) -> None:
        self.place, self.device = device, torch.device(device)

    def build(
        self,
        config: Wav2Vec2Config,
        head: str,
        values: Mapping[str, np.ndarray],
        *,
        dtype: str = "float32",
        mode: str | None = None,
    ) -> TorchModel:
        """A model with copies of these parameters."""
        with layers.without_values():
            model = _class_of(head)(config)
        copies = ((name, array.copy()) for name, array in values.items())  # fill_weights shares memory with its arrays
        fill_weights(model, copies, device=self.device, dtype=getattr(torch, dtype))
        return TorchModel(model, mode or self.modes[0])

    def load(self, folder: str, head: str) -> TorchModel:
        """``from_pretrained``."""
        return TorchModel(_class_of(head).from_pretrained(folder).to(self.device), self.modes[0])

    def versions(self) -> dict[str, str]:
        """PyTorch and the device."""
        cuda = self.device.type == "cuda"
        return {"torch": torch.__version__, "device": torch.cuda.get_device_name(self.device) if cuda else "cpu"}


class TorchModel:
    """One model; ``mode`` "compile" runs it through torch.compile, where outputs are seen and modules are not."""

    def __init__(self, model: Any, mode: str) -> None:
        self.model, self.mode = model, mode
        self.config: Wav2Vec2Config = model.config
        self._run = model
        if mode == "compile":
            # On a CPU the captured graph runs as it is: code generation there is torch's business, and slow.
            cuda = model.device.type == "cuda"
            self._run = torch.compile(model, backend="inductor" if cuda else "aot_eager")

    def fill(self, values: Mapping[str, np.ndarray]) -> None:
        """New values, in place."""
        fill_weights(self.model, ((name, array.copy()) for name, array in values.items()))

    def weights(self) -> Arrays:
        """Copies of all parameters."""
        return {name: array.copy() for name, array in export_weights(self.model).items()}

    @torch.no_grad()
    def forward(self, call: Mapping[str, Any], *, train: bool = False, attentions: bool = False) -> Arrays:
        """Stages and outputs."""
        recorder = Recorder(call.get("layer_keep"))
        arguments = self._prepared(call, train)
        with self._recorded(recorder):
            output = self._run(**arguments, output_hidden_states=True, output_attentions=attentions, return_dict=True)
        stages = {path: self._stage(path, tensor) for path, tensor in recorder.stages().items()}
        return {**stages, **{name: _numpy(tensor) for name, tensor in output_arrays(output).items()}}

    def dropped(self, call: Mapping[str, Any], *, attentions: bool) -> tuple[Arrays, list[np.ndarray]]:
        """Stages and outputs of a seeded training step, and the factors applied by each dropout."""
        drawn: list[Tensor] = []
        torch.manual_seed(0)
        with (
            patch.object(F, "dropout", _noted_dropout(drawn)),
            patch.object(Dropout, "forward", _noted_module(drawn)),
            patch.object(block_attention, "BLOCK", 500),  # attention takes blocks, several
            patch.object(block_attention, "attend", _noted_blocks(drawn)),
            patch.object(F, "scaled_dot_product_attention", _noted_attention(drawn)),
            sdpa_kernel(SDPBackend.MATH),  # the one kernel that draws the same for any values
        ):
            stages = self.forward(call, train=True, attentions=attentions)
        return stages, [_numpy(kept) for kept in drawn]

    def gradients(self, call: Mapping[str, Any]) -> tuple[float, Arrays]:
        """Objective and gradients in training mode."""
        self.model.zero_grad()
        objective = self._objective(call)
        objective.backward()
        found = {
            name: np.zeros(parameter.shape, np.float32) if parameter.grad is None else _numpy(parameter.grad)
            for name, parameter in self.model.named_parameters()
        }
        self.model.zero_grad()
        return objective.item(), found

    def steps(self, call: Mapping[str, Any], count: int, learning_rate: float) -> tuple[list[float], Arrays]:
        """Steps of ``wav2vec2_torch.train`` with ``torch.optim.SGD``."""
        before = self.weights()
        optimizer = torch.optim.SGD(self.model.parameters(), momentum=MOMENTUM)
        trainer = (Trainer if has_loss(call) else Probed)(self.model, optimizer)
        objectives = run_steps(trainer, call, count, learning_rate, targets_of(self.config, self.model.head, call))
        after = self.weights()
        self.model.zero_grad()
        self.fill(before)
        return objectives, after

    def save(self, folder: str, kind: str) -> None:
        """``save_pretrained``."""
        self.model.save_pretrained(folder)

    def _prepared(self, call: Mapping[str, Any], train: bool) -> dict[str, Tensor]:
        arguments = dict(call)
        temperature = arguments.pop("gumbel_temperature", None)
        if temperature is not None:
            self.model.set_gumbel_temperature(float(temperature))
        self.model.train(train)
        return {
            name: torch.from_numpy(np.array(array)).to(self.model.device)
            for name, array in arguments.items()
            if array is not None
        }

    def _objective(self, call: Mapping[str, Any]) -> Tensor:
        output = self._run(**self._prepared(call, train=True), return_dict=True)
        return output.loss.sum() if output.get("loss") is not None else _probed(output)

    @contextmanager
    def _recorded(self, recorder: Recorder) -> Iterator[None]:
        if self.mode == "compile":
            yield
            return
        paths = module_paths(self.model.named_modules())
        hooks = [
            module.register_forward_hook(
                lambda module, inputs, result: recorder.record(paths[id(module)], inputs, result)
            )
            for module in self.model.modules()
            if id(module) in paths
        ]
        try:
            with watched_calls(watched_methods(self.model), recorder):
                yield
        finally:
            for hook in hooks:
                hook.remove()

    @staticmethod
    def _stage(path: str, tensor: Tensor) -> np.ndarray:
        array = _numpy(tensor)
        last = path.rpartition(".")[2]
        return array.swapaxes(1, 2) if path.startswith(CHANNELS_FIRST) and last.isdigit() else array


def _noted_dropout(drawn: list[Tensor]) -> Any:
    original = F.dropout

    def dropout(x: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
        if not training:
            return x
        drawn.append(original(torch.ones_like(x), p))
        return x * drawn[-1]

    return dropout


def _noted_module(drawn: list[Tensor]) -> Any:
    original = Dropout.forward

    def forward(module: Dropout, x: Tensor) -> Tensor:
        if not module.training or x.device.type != "cpu":  # elsewhere it calls ``F.dropout``
            return original(module, x)
        drawn.append(original(module, torch.ones_like(x)))
        return x * drawn[-1]

    return forward


def _noted_blocks(drawn: list[Tensor]) -> Any:
    """As ``_noted_attention``, of attention in blocks."""
    original = block_attention.attend

    def attend(query: Tensor, key: Tensor, value: Tensor, lengths: Any, dropout: float, seed: int) -> Tensor:
        identity = torch.eye(value.shape[2], dtype=value.dtype).expand(*value.shape[:2], -1, -1)
        weights = [original(query, key, identity, lengths, rate, seed) for rate in (dropout, 0.0)]
        drawn.append(weights[0] / weights[1])
        return original(query, key, value, lengths, dropout, seed)

    return attend


def _noted_attention(drawn: list[Tensor]) -> Any:
    """The fused kernel drops weights that it does not return: with the identity for values it does, seeded alike."""
    original = F.scaled_dot_product_attention

    def attention(query: Tensor, key: Tensor, value: Tensor, attn_mask: Any = None, dropout_p: float = 0.0) -> Tensor:
        identity = torch.eye(value.shape[2], dtype=value.dtype, device=value.device).expand(*value.shape[:2], -1, -1)
        seed = layers.draw_seed()
        torch.manual_seed(seed)
        dropped = original(query, key, identity, attn_mask=attn_mask, dropout_p=dropout_p)
        drawn.append(dropped / original(query, key, identity, attn_mask=attn_mask))
        torch.manual_seed(seed)
        return original(query, key, value, attn_mask=attn_mask, dropout_p=dropout_p)

    return attention


class Probed(Trainer):
    """A trainer of models without a loss."""

    def loss_sums(self, model: Any, output: Any, batch: Any) -> Any:
        """The objective of a call without a loss."""
        return {"loss": (_probed(output), torch.tensor(1))}


def _probed(output: Any) -> Tensor:
    states = [output[name] for name in PROBED if name in output]
    products = [(state * torch.from_numpy(probe(state.shape)).to(state)).sum() for state in states]
    return torch.stack(products).sum() + output.get("codevector_perplexity", 0.0)


def _class_of(head: str) -> Any:
    return getattr(wav2vec2_torch, f"Wav2Vec2{head}")


def _numpy(tensor: Tensor) -> np.ndarray:
    array = to_array(tensor)
    return array.astype(np.float32) if array.dtype.name == "bfloat16" else array.copy()
