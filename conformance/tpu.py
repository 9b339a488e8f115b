"""Do all cases run on a TPU? They are compiled for one ahead of time, by its own compiler, without having one.

``python -m conformance.tpu`` compiles every tiny case, with ``--full-size`` the models of released size too, and prints
the memory that each needs. A program holds a case's inference, its training step's outputs, and every gradient. Needs
the extras ``flax`` and ``tpu``; what the programs compute is checked where there is a TPU, by the suite's own command.
"""

from __future__ import annotations

import argparse
import functools
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from conformance.cases import Case, find, full_size_cases, tiny_cases
from wav2vec2_core.errors import BackendError

#: One chip of the kind with the least memory (16 GB) among those on offer today.
TOPOLOGY = "v5e:1x1"


@dataclass(frozen=True)
class Compiled:
    """The resources that a compiled case needs.

    name: of the case.
    memory: bytes of the chip's memory for parameters, inputs, outputs, gradients, intermediate results and program.
    seconds: processor time that tracing and compiling took.
    """

    name: str
    memory: int
    seconds: float


def compile_case(case: Case) -> Compiled:
    """Compile a case for one chip.

    The compiler optimises as little as it can: the question is whether it accepts every operation and finds the memory.

    Raises:
        BackendError: the case does not fit into the chip's memory, or jax or libtpu is not installed.
    """
    device = _device()
    import jax

    start = time.process_time()
    model, call = _model(case), _call(case)
    program = jax.jit(functools.partial(_everything, model))
    lowered = program.lower(*_shapes((model.params, call), device))
    try:
        compiled = lowered.compile()
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" in str(error):
            first = str(error).splitlines()[0]
            raise BackendError(f"{case.name} does not fit into a chip of {TOPOLOGY}: {first}") from error
        raise
    sizes: Any = compiled.memory_analysis()
    memory = sizes.argument_size_in_bytes + sizes.output_size_in_bytes - sizes.alias_size_in_bytes
    memory += sizes.temp_size_in_bytes + sizes.generated_code_size_in_bytes
    return Compiled(case.name, memory, time.process_time() - start)


def _everything(model: Any, params: Any, call: dict[str, Any]) -> tuple[Any, Any, Any]:
    """Inference, the outputs of a training step, and the gradients of its loss or, without one, of its outputs."""
    import jax
    import jax.numpy as jnp

    def objective(params: Any) -> tuple[Any, Any]:
        output = model(**call, params=params, train=True, dropout_rng=jax.random.key(0), output_hidden_states=True)
        loss = output.get("loss")
        if loss is None:
            loss = sum(jnp.sum(output[name]) for name in output if name != "hidden_states")
        return jnp.sum(loss), dict(output)

    (_, training), gradients = jax.value_and_grad(objective, has_aux=True)(params)
    return dict(model(**call, params=params)), training, gradients


def _model(case: Case) -> Any:
    """The model's structure without values. Full-size layers are one loop, as users train them."""
    import wav2vec2_flax

    kind = getattr(wav2vec2_flax, f"FlaxWav2Vec2{case.head}")
    return kind(case.config, scan_layers=case.full_size, _do_init=False)


def _call(case: Case) -> dict[str, Any]:
    """Arguments of a training step as numpy arrays."""
    draws = vars(case.randomness())
    names = ["mask_time_indices", "mask_feature_indices", "layer_keep"]
    if case.head == "ForPreTraining":
        names += ["sampled_negative_indices", "gumbel_noise", "gumbel_temperature"]
    call = {**case.inputs(), "labels": case.labels(), **{name: draws[name] for name in names}}
    return {name: np.asarray(value) for name, value in call.items() if value is not None}


def _shapes(tree: Any, device: Any) -> Any:
    """The arrays' shapes and types, on the chip. JAX has 32 bits for what numpy has 64 for."""
    import jax

    place = jax.sharding.SingleDeviceSharding(device)

    def shape(array: Any) -> Any:
        return jax.ShapeDtypeStruct(np.shape(array), jax.dtypes.canonicalize_dtype(array.dtype), sharding=place)

    return jax.tree.map(shape, tree)


@functools.cache
def _device() -> Any:
    """The chip. Raises ``BackendError`` where its compiler is not installed."""
    try:
        import jax

        from wav2vec2_flax.tpu_check import topology
    except ImportError as error:
        raise BackendError(
            f"{error.name} is not installed: pip install 'wav2vec2-frameworks[flax,tpu]' (700 MB) to compile for TPUs"
        ) from error
    (device,) = topology(TOPOLOGY)
    jax.config.update("jax_optimization_level", "O0")
    return device


def main(arguments: Sequence[str] | None = None) -> int:
    """The command. Returns 1 where a case did not compile."""
    parser = argparse.ArgumentParser(prog="python -m conformance.tpu", description="Compile the cases for a TPU.")
    parser.add_argument("cases", nargs="*", help="names of cases; all tiny ones where there are none")
    parser.add_argument("--full-size", action="store_true", help="the models of released size too")
    options = parser.parse_args(arguments)
    try:
        chosen = [find(name) for name in options.cases] or tiny_cases()
    except KeyError as error:
        parser.error(f"case {error} does not exist")
    failed = 0
    for case in [*chosen, *(full_size_cases() if options.full_size else ())]:
        try:
            result = compile_case(case)
        except BackendError as error:
            failed += 1
            print(error, file=sys.stderr)
        else:
            print(f"{result.name:<55} {result.memory / 2**20:9.1f} MiB {result.seconds:7.1f} s", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
