"""Compares what the sources of the three back ends declare: files, classes, methods, arguments."""

from __future__ import annotations

import ast
import fnmatch
from dataclasses import dataclass
from pathlib import Path

#: Back end -> (package, prefix of its public classes).
PACKAGES = {
    "torch": ("wav2vec2_torch", ""),
    "tf": ("wav2vec2_tf", "TF"),
    "flax": ("wav2vec2_flax", "Flax"),
}
#: What a framework calls the computation of a module, and the one name for it here.
_COMPUTATION = {"forward": "forward", "call": "forward", "__call__": "forward"}


@dataclass(frozen=True)
class Declared:
    """What one module file declares. functions: ``name`` or ``Class.method`` -> argument names in order."""

    classes: tuple[str, ...]
    functions: dict[str, tuple[str, ...]]


def declared(package: Path, prefix: str) -> dict[str, Declared]:
    """Public declarations of every file of a package, by file name; names without the framework's prefix."""
    return {path.name: _read(path, prefix) for path in sorted(package.glob("*.py")) if not path.name.startswith("_")}


def _read(path: Path, prefix: str) -> Declared:
    classes: list[str] = []
    functions: dict[str, tuple[str, ...]] = {}
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            functions[node.name] = _arguments(node)
        elif isinstance(node, ast.ClassDef):
            name = node.name.removeprefix(prefix)
            classes.append(name)
            for inner in node.body:
                if not isinstance(inner, ast.FunctionDef):
                    continue
                method = _COMPUTATION.get(inner.name, inner.name)
                if not method.startswith("_") or method == "__init__":
                    functions.setdefault(f"{name}.{method}", _arguments(inner))
    return Declared(tuple(classes), functions)


def _arguments(node: ast.FunctionDef) -> tuple[str, ...]:
    given = node.args
    return tuple(argument.arg for argument in (*given.posonlyargs, *given.args, *given.kwonlyargs))


# ---- differences --------------------------------------------------------------------------------------------------

#: File, or pattern of ``back end:file:what``, that may differ -> why. ``what`` is ``+name`` or ``-name`` for a class or
#: function that PyTorch lacks or has, and ``function(+argument)`` or ``function(-argument)`` for its arguments.
EXCEPTIONS: dict[str, str] = {
    # files
    "*:keras_steps.py": "compile and fit of Keras; PyTorch users write the loop, JAX users compose functions",
    "*:export.py:*": "formats of one framework each; what the command needs is wav2vec2_core.backend.ExportPart",
    "*:export_*.py": "as above",
    "*:fast_layers.py": "the engine's own layers exist where the framework's are slower",
    "*:kernels.py": "the other frameworks compile, and choose by themselves",
    "*:block_attention.py": "PyTorch has no fused attention with dropout on a processor; the others compile theirs",
    "*:dropout.py": "the others draw their random numbers in compiled code",
    "*:packed_transformer.py": "packing rows pays where shapes are not compiled",
    "*:cuda_graphs.py": "the other frameworks compile a function for its shapes, with its launches in it",
    "*:distributed.py*": "how processes are connected and models split is each framework's; all have join_processes",
    "flax:compiled.py": "PyTorch compiles nothing here, TensorFlow one graph, which cannot be kept",
    "flax:hlo.py": "programs that XLA compiled, as text",
    "flax:tpu_check.py": "steps compiled for TPUs that are not there, which only JAX's compiler does",
    "tf:optimizers.py": "Adam of PyTorch counts the updates of each parameter; Keras' does not",
    # arguments
    "tf:*(+training)": "Keras passes the mode with the call, PyTorch keeps it in the module",
    "tf:*(+name)": "Keras layers are named when they are made",
    "tf:*(+index)": "as above: the name has the layer's number in it",
    "tf:*(+epsilon)": "Keras passes it to the layer's base class",
    "tf:*(-mask)": "called valid or counted: Keras hangs masks of that name onto tensors",
    "tf:*(+valid)": "as above",
    "tf:*(+counted)": "as above",
    "*:layers.py:*(-input)": "called x where the base class does not name it",
    "*:layers.py:*(+x)": "as above",
    "*:layers.py:*(+inputs)": "as above, in Keras",
    "*(-with_weights)": "only the fused attention of PyTorch cannot give weights",
    "flax:*(+types)": "nnx modules take the types of computation and parameters when they are made",
    "flax:*(+key)": "randomness is an argument in JAX",
    "flax:*(+dropout_rng)": "as above",
    "flax:*(+gumbel_rng)": "as above",
    "flax:layers.py:attend(*": "dropout is a rate and a key in JAX, a rate or a layer elsewhere",
    "flax:*(+train)": "transformers' Flax models take the mode with the call",
    "flax:*(+freeze_feature_encoder)": "transformers' Flax models take it with the call",
    "flax:*(+temperature)": "compiled steps take the Gumbel temperature as an argument",
    "flax:*(+gumbel_temperature)": "as above",
    "flax:heads.py:*(-output_attentions)": "passed on with the other options of the body",
    "flax:heads.py:*(-mask_feature_indices)": "as above",
    "flax:heads.py:*(-layer_keep)": "as above",
    "tf:model.py:+Wav2Vec2Model.draw": "drawn on the host; the others draw tensors",
    "flax:model.py:Wav2Vec2Model.draw_missing(-batch)": "lengths have the batch's size, static in a compiled step",
    # how models are made
    "flax:*:-*.__init__": "nnx heads create their modules in build, under one constructor",
    "flax:*:+*.build": "as above",
    "flax:heads.py:+body": "makes the body without values",
    # primitives and files of the framework: only what all have must have one name and meaning
    "*:layers.py:+*": "a framework's quirks live there",
    "*:layers.py:-draw": "keys in JAX, draw_on_host in TensorFlow",
    "*:layers.py:-grouped_conv1d": "Keras and nnx have it in WeightNormConv1d; PyTorch's engine calls it too",
    "*:layers.py:-seeded": "keys in JAX; Keras layers have generators of their own, see seed_dropouts",
    "*:layers.py:-values_unseen": "the others compile a step, in which no value is seen",
    "*:layers.py:-skipping_layers": "as above: a compiled step computes every layer",
    "*:layers.py:-to_skip": "as above",
    "*:layers.py:-Conv1d*": "faults and layouts of PyTorch's convolutions on a processor",
    "*:layers.py:-LayerNorm.forward": "PyTorch alone adds up its gradients in bfloat16",
    "*:layers.py:-exactly": "modules of the others know the type that they compute in",
    "*:layers.py:-checkpointed": "recomputation is a policy of JAX's, and not offered by Keras",
    "flax:layers.py:-draw_seed": "keys take its place",
    "flax:layers.py:-gumbel_noise_like": "jax.random.gumbel",
    "*:layers.py:seeded_gumbel_noise(-device)": "the others draw where the step is compiled for",
    "flax:layers.py:-sharing": "a step that is compiled for a mesh sees the rows of all devices and processes",
    "flax:layers.py:-of_all_shares": "as above",
    "flax:layers.py:-without_values": "parameters are shapes until they are filled",
    "*:train.py:Trainer.__init__(-dtype)": "modules of the others know the type that they compute in",
    "flax:train.py:+*": "steps as pure functions, and meshes, which only JAX has",
    "flax:train.py:Trainer.__init__(+mesh)": "as above; the others find their devices in the model",
    "flax:steps.py": "the functions that a trainer compiles; the others run their steps as they are written",
    "*:weights.py:*": "layouts and containers differ by framework; export_weights and fill_weights exist in all",
    "*:pretrained.py:*": "loading options are each framework's; the public ones are in test_mirror.PUBLIC",
    "*:inference.py:*": "the engine is each framework's; what it must offer is wav2vec2_core.backend.InferenceModel",
    "*:tiled_encoder.py:*": "as the engine",
}


def differences(root: Path) -> list[str]:
    """How back ends in ``root`` differ from PyTorch's: ``back end:file:what`` each, and ``back end:file`` for files."""
    sources = {name: declared(root / package, prefix) for name, (package, prefix) in PACKAGES.items()}
    found = []
    for name in sorted(set().union(*sources.values())):
        having = [backend for backend in sources if name in sources[backend]]
        if len(having) < len(sources):
            found += [f"{backend}:{name}" for backend in having]
            continue
        for backend in list(sources)[1:]:
            found += [f"{backend}:{name}:{what}" for what in _compared(sources["torch"][name], sources[backend][name])]
    return found


def _compared(torch: Declared, other: Declared) -> list[str]:
    found = [f"-{name}" for name in torch.classes if name not in other.classes]
    found += [f"+{name}" for name in other.classes if name not in torch.classes]
    orders = [[name for name in one.classes if name in two.classes] for one, two in ((torch, other), (other, torch))]
    if orders[0] != orders[1]:
        found.append(f"order of classes: {', '.join(orders[1])} instead of {', '.join(orders[0])}")
    found += [f"-{name}" for name in torch.functions if name not in other.functions]
    found += [f"+{name}" for name in other.functions if name not in torch.functions]
    for name in torch.functions:
        ours, theirs = torch.functions[name], other.functions.get(name, torch.functions[name])
        found += [f"{name}(-{argument})" for argument in ours if argument not in theirs]
        found += [f"{name}(+{argument})" for argument in theirs if argument not in ours]
    return found


def unexplained(found: list[str]) -> tuple[list[str], list[str]]:
    """The differences without an exception, and the exceptions without a difference."""
    unused = [pattern for pattern in EXCEPTIONS if not fnmatch.filter(found, pattern)]
    left = [one for one in found if not any(fnmatch.fnmatchcase(one, pattern) for pattern in EXCEPTIONS)]
    return left, unused
