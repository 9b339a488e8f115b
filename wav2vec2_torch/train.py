"""Training steps: gradients of several micro-batches, clipping and one update of any ``torch.optim`` optimizer.

model = Wav2Vec2ForCTC.from_pretrained("facebook/wav2vec2-base")
model.freeze_feature_encoder()
trainer = Trainer(model, torch.optim.AdamW(model.parameters()))
handle = trainer.step([{"input_values": ..., "labels": ...}], 0, StepValues(learning_rate=1e-4, targets=8))
trainer.fetch(handle)["loss"]
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wav2vec2_core.config import Wav2Vec2Config
from wav2vec2_core.data.collate import unpad_scores
from wav2vec2_core.devices import Devices
from wav2vec2_core.errors import InputError, ParameterMismatchError
from wav2vec2_core.outputs import ModelOutput
from wav2vec2_core.training.state import check_format, check_same, write_state
from wav2vec2_core.training.steps import (
    Batch,
    StepValues,
    check_targets,
    checked_batch,
    noise_seeds,
    noise_seeds_of_rows,
)
from wav2vec2_torch import distributed, layers
from wav2vec2_torch.heads import Sums
from wav2vec2_torch.pretrained import Wav2Vec2PreTrainedModel
from wav2vec2_torch.weights import to_array


@dataclass(frozen=True)
class Handle:
    """A step that may still be running on the device; ``Trainer.fetch`` waits for it."""

    sums: Sums
    gradient_norm: Tensor
    targets: float


class Trainer:
    """A model and its optimizer: see ``wav2vec2_core.training.steps.Trainer``."""

    def __init__(
        self,
        model: Wav2Vec2PreTrainedModel,
        optimizer: torch.optim.Optimizer,
        *,
        seed: int = 0,
        dtype: torch.dtype | None = None,
    ) -> None:
        """Train ``model`` where it is, together with the other processes if ``distributed.join_processes`` found some.

        A model that ``distributed.shard`` split stays so; of any other each process has a copy, that of the first.

        Args:
            model: any head.
            optimizer: of its parameters; the learning rate of all groups is that of each step. Only one with
                ``fused=True`` lets a GPU refuse a step by itself; for others each step is waited for.
            seed: of dropout and Gumbel noise.
            dtype: of matrix products, such as ``torch.bfloat16``; that of the parameters where None.
        """
        self.model, self.optimizer, self.seed, self.dtype = model, optimizer, seed, dtype
        self.process = distributed.processes()
        self._in_parts = any(map(distributed.is_part, model.parameters()))
        self._is_copied = self.process[1] > 1 and not self._in_parts
        if self._is_copied:
            distributed.equalise(model)

    @property
    def config(self) -> Wav2Vec2Config:
        """The model's configuration."""
        return self.model.config

    @property
    def devices(self) -> Devices:
        """What computes, of all processes together."""
        device = self.model.device
        kind = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
        return Devices(kind, self.process[1])

    def set_trainable(self, names: frozenset[str]) -> None:
        """Train these parameters from the next step on; the optimizer keeps what it knows of the others."""
        self.model.set_trainable(names)

    def step(self, micro: Sequence[Batch], number: int, values: StepValues) -> Handle:
        """One update from the gradients of all micro-batches; raises ``InputError`` before anything changes."""
        self._set(values)
        for parameter in self.model.parameters():
            parameter.grad = None
        self.model.train()
        collected: list[Sums] = []
        for index, batch in enumerate(micro):
            (seed,) = noise_seeds(self.seed, number, index, self.process[0], 1)
            with layers.seeded(self.model.device, int(seed)):
                shared = self.process[1] > 1  # others then wait for every gradient
                add_up = distributed.add_up_in_graph if shared else None
                with layers.sharing(add_up), layers.skipping_layers(not shared):
                    sums = self._sums(batch, (number, index))
                loss = sums["loss"][0] / values.targets
                if not loss.requires_grad:
                    raise InputError("no parameter is trained: name some in set_trainable")
                with distributed.with_others():
                    loss.backward()
            collected.append({name: (total.detach(), count) for name, (total, count) in sums.items()})
        self._complete_gradients()
        return Handle(self._of_all(_added(collected)), self._update(values.clip), values.targets)

    def fetch(self, handle: Handle) -> dict[str, float]:
        """The results of a step: losses divided by ``targets``, ``count``, ``gradient_norm``, ``refused``."""
        found = {name: float(total) / handle.targets for name, (total, _) in handle.sums.items()}
        norm = float(handle.gradient_norm)
        refused = float(not np.isfinite(norm))
        return {**found, "count": float(handle.sums["loss"][1]), "gradient_norm": norm, "refused": refused}

    @torch.no_grad()
    def evaluate(self, batch: Batch) -> dict[str, tuple[float, float]]:
        """Sum and count of every term of the loss, without dropout."""
        self.model.eval()
        found = {name: (float(total), float(count)) for name, (total, count) in self._sums(batch).items()}
        self._part()
        return found

    @torch.no_grad()
    def logits(self, batch: Batch, name: str = "logits") -> list[np.ndarray]:
        """The head's scores for each row, or the output of that name, without padding, float32."""
        self.model.eval()
        arrays = checked_batch(self.config, self.model.head, batch)
        given = {key: arrays[key] for key in ("input_values", "attention_mask") if key in arrays}
        output = self._output(self._placed({key: torch.from_numpy(array) for key, array in given.items()}))
        self._part()
        field = next(one for one in (name, "logits", "last_hidden_state", "projected_states") if one in output)
        mask = given.get("attention_mask", np.ones_like(given["input_values"], np.int32))
        rows = [row[: int(valid.sum())] for row, valid in zip(given["input_values"], mask, strict=True)]
        return unpad_scores(output[field].float().cpu().numpy(), rows, self.config)

    def add_up(self, numbers: Sequence[float]) -> list[float]:
        """The sum of each number over all processes; waits for all of them. Raises ``BackendError``."""
        return distributed.add_up(numbers)

    def save_state(self, folder: str | os.PathLike[str]) -> Callable[[], None]:
        """Write parameters and optimizer; returns what waits for it. See ``wav2vec2_core.training.state``.

        A model in parts is written by torch.distributed.checkpoint, before this returns.
        """
        state = self._state()
        if self._in_parts:
            distributed.write_parts(folder, {**state[0], **state[1]})
        elif self.process[0] == 0:
            return write_state(folder, *({name: to_array(one) for name, one in part.items()} for part in state))
        return lambda: None

    def load_state(self, folder: str | os.PathLike[str]) -> None:
        """Load a state, written by any number of processes, in parts or not; nothing changes if it is of another run.

        Raises:
            CheckpointError: there is no state, or it is damaged.
            ParameterMismatchError: it is of another model or optimizer.
        """
        folder = Path(folder)
        check_format(folder)
        parameters, there = self._state()[0], distributed.entries_of(folder)
        known = {place: entry for place, entry in there.items() if "/" in place}
        here = {name: distributed.entry(parameter) for name, parameter in parameters.items()}
        check_same(folder, {name: entry for name, entry in there.items() if name not in known}, here)
        filled = {name: torch.empty_like(parameter) for name, parameter in parameters.items()}
        kind, order = type(self.optimizer).__name__, self._order()
        state: dict[int, dict[str, Tensor]] = {}
        for place, entry in known.items():
            other, name, key = place.split("/", 2)
            if other != kind or name not in order:
                raise ParameterMismatchError(f"{folder} has {place!r}, no state of this {kind}: use the same optimizer")
            filled[place] = state.setdefault(order[name], {})[key] = distributed.empty(entry, parameters[name])
        distributed.read_parts(folder, filled)
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": state})
        with torch.no_grad():
            for name, parameter in parameters.items():
                distributed.local(parameter).copy_(distributed.local(filled[name]))

    def save_pretrained(self, folder: str | os.PathLike[str]) -> None:
        """Write the model as it is now: the first process does, with the parts of all."""
        first, model, arrays = self.process[0] == 0, self.model, None
        if self._in_parts:
            tensors = ((name, distributed.whole(parameter)) for name, parameter in model.named_parameters())
            arrays = {name: to_array(tensor) for name, tensor in tensors if first}
            with layers.without_values():
                model = distributed.plain_class(model)(self.config)
        model.save_pretrained(folder, is_main_process=first, state_dict=arrays)

    def close(self) -> None:
        """Take the connections to the other processes down."""
        distributed.leave_processes()

    def loss_sums(self, model: Any, output: ModelOutput, batch: Mapping[str, Tensor]) -> Sums:
        """Terms of the objective, ``loss`` first: those of the head. Another objective is a class that has its own."""
        check_targets(model.head, batch)
        return model.loss_sums(output, batch)

    def _state(self) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Parameters by name, and what the optimizer knows as kind/parameter/key."""
        kind = type(self.optimizer).__name__
        names: dict[Any, str] = {parameter: name for name, parameter in self.model.named_parameters()}
        known = {
            f"{kind}/{names[parameter]}/{key}": torch.as_tensor(value)
            for parameter, state in self.optimizer.state.items()
            for key, value in state.items()
            if value is not None
        }
        return {name: parameter.detach() for parameter, name in names.items()}, known

    def _order(self) -> dict[str, int]:
        """The number of each parameter in the optimizer's own state."""
        names: dict[Any, str] = {parameter: name for name, parameter in self.model.named_parameters()}
        groups = self.optimizer.param_groups
        return {names[one]: index for index, one in enumerate(one for group in groups for one in group["params"])}

    def _sums(self, batch: Batch, place: tuple[int, int] | None = None) -> Sums:
        """Terms of the objective; ``place``: step and micro-batch that noise is drawn for."""
        arrays = checked_batch(self.config, self.model.head, batch)
        given = {name: torch.from_numpy(array) for name, array in arrays.items()}
        # Labels stay on the host: the losses are computed from the output, and count there without waiting.
        arguments = self._placed({name: tensor for name, tensor in given.items() if name != "labels"})
        if place is not None and self.model.head == "ForPreTraining" and "gumbel_noise" not in arguments:
            arguments["gumbel_noise"] = self._noise(given, *place)
        return self.loss_sums(self.model, self._output(arguments), given)

    def _noise(self, batch: Mapping[str, Tensor], number: int, index: int) -> Tensor:
        """Gumbel noise of a micro-batch: (rows, frames, groups, entries)."""
        rows, samples = batch["input_values"].shape
        config = self.config
        frames = config.num_frames(samples, add_adapter=False)
        shape = rows, frames, config.num_codevector_groups, config.num_codevectors_per_group
        seeds = noise_seeds_of_rows(self.seed, number, index, self.process, rows)
        return layers.seeded_gumbel_noise(shape, seeds, self.model.device)

    def _output(self, arguments: Mapping[str, Tensor]) -> ModelOutput:
        device = self.model.device.type
        cast = nullcontext() if self.dtype in (None, self.model.dtype) else torch.autocast(device, self.dtype)
        with layers.values_unseen(), distributed.with_others(), cast:
            return self.model(**arguments, return_dict=True)

    def _part(self) -> None:
        """Give back what a forward pass alone leaves whole of a model in parts."""
        if self._in_parts:
            model: Any = self.model
            model.reshard()

    def _of_all(self, sums: Sums) -> Sums:
        """Terms of this process's batches -> of those of all processes."""
        if self.process[1] == 1:
            return sums
        flat = [value for pair in sums.values() for value in pair]
        added = iter(distributed.add_up_tensors(flat, self.model.device))
        return {name: (next(added), next(added)) for name in sums}

    def _placed(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {name: tensor.to(self.model.device, non_blocking=True) for name, tensor in tensors.items()}

    def _set(self, values: StepValues) -> None:
        if values.gumbel_temperature is not None:
            model: Any = self.model
            model.set_gumbel_temperature(values.gumbel_temperature)
        for group in self.optimizer.param_groups:
            group["lr"] = values.learning_rate

    def _complete_gradients(self) -> None:
        """Zeros for layers that no micro-batch computed: an optimizer moves on by its momenta, as in every process."""
        body: Any = getattr(self.model, "wav2vec2", self.model)
        for parameter in body.encoder.layers.parameters():
            if parameter.requires_grad and parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)

    def _update(self, clip: float | None) -> Tensor:
        """Clip, then update or refuse; the norm of the gradient before that."""
        trained = [parameter for parameter in self.model.parameters() if parameter.grad is not None]
        gradients = [parameter.grad for parameter in trained if parameter.grad is not None]
        if self._is_copied:
            distributed.add_up_gradients(gradients)
        norm = distributed.norm_of(gradients)
        if clip is not None:
            scale = torch.clamp(clip / norm, max=1.0)
            for gradient in gradients:
                distributed.local(gradient).mul_(scale)
        optimizer: Any = self.optimizer
        # Before its first step an optimizer would keep momenta that nothing has filled.
        if getattr(optimizer, "_step_supports_amp_scaling", False) and all(one in optimizer.state for one in trained):
            optimizer.grad_scale, optimizer.found_inf = None, (~torch.isfinite(norm)).float()
            optimizer.step()
        elif torch.isfinite(norm):
            optimizer.step()
        return norm


def _added(parts: Sequence[Sums]) -> Sums:
    """Terms of several micro-batches together."""
    if not parts:
        raise InputError("a step has no micro-batch: give at least one")
    names = parts[0]
    return {
        name: (sum(part[name][0] for part in parts[1:]) + first, sum(part[name][1] for part in parts[1:]) + count)
        for name, (first, count) in names.items()
    }
