"""Record what transformers 4.57.6 computes and how it names parameters: ``python -m conformance.make_golden --help``.

Its JAX is too old to stand beside the others, so two environments are needed besides this package; each command
replaces its own part of the files and keeps the others:

    pip install -c constraints.txt transformers==4.57.6 torch tensorflow tf-keras
    python -m conformance.make_golden outputs    # 20 minutes and 5 GB, nearly all of it for the full-size models
    python -m conformance.make_golden torch
    python -m conformance.make_golden tf

    pip install -c constraints-flax4.txt transformers==4.57.6 flax optax
    python -m conformance.make_golden flax
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np

from conformance import golden
from conformance.cases import OURS, Case, full_size_cases, tiny_cases
from conformance.golden import Golden, folded
from wav2vec2_core.config import PRESETS, Wav2Vec2Config
from wav2vec2_core.files import atomic_path, make_folder, read_json, write_json

#: (model on the hub, head, preset, other fields of its config.json that shape its parameters)
MODELS: tuple[tuple[str, str, str, dict[str, Any]], ...] = (
    ("facebook/wav2vec2-base", "ForPreTraining", "base", {}),
    ("facebook/wav2vec2-base-960h", "ForCTC", "base", {"vocab_size": 32}),
    ("facebook/wav2vec2-large", "ForPreTraining", "large", {}),
    ("facebook/wav2vec2-large-lv60", "ForPreTraining", "large-lv60", {}),
    ("facebook/wav2vec2-large-960h-lv60-self", "ForCTC", "large-lv60", {"vocab_size": 32}),
    ("facebook/wav2vec2-xls-r-300m", "ForPreTraining", "xls-r-300m", {}),
    ("facebook/wav2vec2-xls-r-1b", "ForPreTraining", "xls-r-1b", {}),
    ("facebook/mms-1b-all", "ForCTC", "mms-1b", {"vocab_size": 154}),
    ("facebook/mms-lid-126", "ForSequenceClassification", "mms-1b", {"adapter_attn_dim": None, "num_labels": 126,
                                                                     "classifier_proj_size": 1024}),
    ("superb/wav2vec2-base-superb-sd", "ForAudioFrameClassification", "base", {"use_weighted_layer_sum": True}),
    ("superb/wav2vec2-base-superb-sv", "ForXVector", "base", {"use_weighted_layer_sum": True, "num_labels": 1251}),
)  # fmt: skip


def main(arguments: list[str] | None = None) -> None:
    """Write the part that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=("outputs", "torch", "tf", "flax"), help="what to record")
    part = parser.parse_args(arguments).part
    make_folder(golden.FOLDER)
    if part == "outputs":
        write_outputs()
    else:
        write_layouts(part)


def versions(*packages: str) -> dict[str, str]:
    """Versions of those packages that are installed, and of Python."""
    found = {"python": sys.version.split()[0]}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


# ---- outputs ----------------------------------------------------------------------------------------------------


def write_outputs() -> None:
    """Every case that transformers computes, one after the other, into ``golden/outputs.safetensors``."""
    from safetensors.numpy import save_file

    tensors: dict[str, np.ndarray] = {}
    sums: dict[str, int] = {}
    for case in [*tiny_cases(), *full_size_cases()]:
        if not case.is_shared:
            continue
        tensors |= golden.as_tensors(case, _computed(case))
        sums[case.name] = golden.fingerprint(case)
        print(case.name, file=sys.stderr)
    metadata = {
        "command": "python -m conformance.make_golden outputs",
        "versions": json.dumps(versions("transformers", "torch", "numpy")),
        "fingerprints": json.dumps(sums),
    }
    with atomic_path(golden.OUTPUTS) as temporary:
        save_file({name: np.array(array, order="C") for name, array in tensors.items()}, temporary, metadata)


def _computed(case: Case) -> Golden:
    from conformance import transformers_model

    inference, _ = transformers_model.run(case, training=False)
    training, gradients = ({}, {}) if case.full_size else transformers_model.run(case, training=True)
    norms = {name: float(np.linalg.norm(gradient)) for name, gradient in gradients.items()}
    losses = {name: array for name, array in golden.recorded_stages(case, training).items() if array.ndim < 2}
    return Golden(golden.recorded_stages(case, inference), losses, norms)


# ---- layouts ----------------------------------------------------------------------------------------------------


def write_layouts(file: str) -> None:
    """The layouts of one kind of file into ``golden/layouts.json``, beside those of the others."""
    content = read_json(golden.LAYOUTS) if golden.LAYOUTS.exists() else {"recorded": {}, "layouts": []}
    names = {"torch": _torch_names, "tf": _tf_names, "flax": _flax_names}[file]
    rows = [row for row in content["layouts"] if row["file"] != file]
    for model, head, preset, fields in MODELS:
        config = Wav2Vec2Config.preset(preset, **fields)
        shapes = dict(names(config, head) or ())
        if not shapes:
            continue
        folded_shapes, layers = folded(shapes)
        row = {"file": file, "model": model, "head": head, "config": {**PRESETS[preset], **fields}}
        rows.append({**row, "layers": layers, "shapes": folded_shapes})
        print(file, model, len(shapes), file=sys.stderr)
    packages = ("transformers", "torch", "tensorflow", "tf-keras", "jax", "flax")
    content["recorded"][file] = {
        "command": f"python -m conformance.make_golden {file}",
        "versions": versions(*packages),
    }
    content["layouts"] = sorted(rows, key=lambda row: row["file"])
    write_json(golden.LAYOUTS, content)


def _theirs(config: Wav2Vec2Config) -> Any:
    import transformers

    fields = {name: value for name, value in config.to_dict().items() if name not in {*OURS, "dtype"}}
    return transformers.Wav2Vec2Config(**fields)


def _torch_names(config: Wav2Vec2Config, head: str) -> Iterator[tuple[str, tuple[int, ...]]]:
    import torch
    import transformers

    with torch.device("meta"):
        model = getattr(transformers, f"Wav2Vec2{head}")(_theirs(config))
    for name, parameter in model.state_dict().items():
        yield name, tuple(parameter.shape)


def _tf_names(config: Wav2Vec2Config, head: str) -> Iterator[tuple[str, tuple[int, ...]]] | None:
    import transformers

    kind = getattr(transformers, f"TFWav2Vec2{head}", None)
    if kind is None or config.hidden_size > 1024:  # it has two heads; the largest models take 4 GB
        return None
    model = kind(_theirs(config))
    model.build_in_name_scope()
    return ((weight.name, tuple(weight.shape)) for weight in model.weights)


def _flax_names(config: Wav2Vec2Config, head: str) -> Iterator[tuple[str, tuple[int, ...]]] | None:
    import transformers
    from flax.traverse_util import flatten_dict

    kind = getattr(transformers, f"FlaxWav2Vec2{head}", None)
    if kind is None or config.feat_extract_norm == "group" or config.adapter_attn_dim is not None:
        return None  # these do not exist in Flax
    model = kind(_theirs(config), _do_init=False)
    flat: dict[str, Any] = flatten_dict(model.params_shape_tree, sep="/")
    return ((name, tuple(leaf.shape)) for name, leaf in flat.items())


if __name__ == "__main__":
    main()
