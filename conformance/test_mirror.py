"""The three back ends declare the same, in the same order, but for exceptions that are data with reasons."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from conformance import mirror
from conformance.mirror import EXCEPTIONS, PACKAGES, declared, differences, unexplained

ROOT = Path(__file__).parent.parent
#: What users and the core's base of models call: methods of a model -> arguments that must exist under one name.
PUBLIC = {
    "from_source": {"source", "config", "checkpoint", "dtype", "ignore_mismatched_sizes", "target_lang"},
    "arrays": set(),
    "write_own_format": {"folder", "arrays", "max_shard_size"},
    "load_adapter": {"target_lang", "source"},
    "save_adapter": {"folder", "language"},
    "init_adapter_layers": set(),
    "adapter_parameters": set(),
    "freeze_feature_encoder": set(),
    "freeze_base_model": set(),
    "freeze_all_but_adapters": set(),
    "trainable_names": set(),
    "set_trainable": {"names"},
}


def test_every_difference_has_a_reason() -> None:
    left, unused = unexplained(differences(ROOT))
    assert left == []
    assert unused == [], "exceptions that nothing needs"
    assert all(reason.strip() for reason in EXCEPTIONS.values())


@pytest.mark.parametrize("backend", PACKAGES)
def test_public_methods(backend: str) -> None:
    package, prefix = PACKAGES[backend]
    functions = declared(ROOT / package, prefix)["pretrained.py"].functions
    for method, arguments in PUBLIC.items():
        assert arguments <= set(functions[f"Wav2Vec2PreTrainedModel.{method}"]), method


@pytest.mark.parametrize("backend", PACKAGES)
def test_the_engine_offers_what_the_core_asks_for(backend: str) -> None:
    package, prefix = PACKAGES[backend]
    offered = declared(ROOT / package, prefix)["inference.py"].functions
    core = ast.parse((ROOT / "wav2vec2_core" / "backend.py").read_text(encoding="utf-8"))
    protocol = next(node for node in core.body if isinstance(node, ast.ClassDef) and node.name == "InferenceModel")
    asked = {node.name: node.args for node in protocol.body if isinstance(node, ast.FunctionDef)}
    assert {"logits", "encode", "summary"} <= set(asked)
    for name, arguments in asked.items():
        names = {argument.arg for argument in (*arguments.args, *arguments.kwonlyargs)}
        assert names <= set(offered.get(f"InferenceModel.{name}", ())), f"InferenceModel.{name}"


def test_a_difference_is_seen(tmp_path: Path) -> None:
    for package, prefix in PACKAGES.values():
        (tmp_path / package).mkdir()
        body = "    def forward(self, x, mask): ..." if not prefix else "    def __call__(self, x, other): ..."
        (tmp_path / package / "model.py").write_text(f"class {prefix}Encoder:\n{body}\nclass A: ...\nclass B: ...\n")
    (tmp_path / "wav2vec2_tf" / "extra.py").write_text("")
    flax = tmp_path / "wav2vec2_flax" / "model.py"
    flax.write_text("class B: ...\nclass A: ...\ndef helper(): ...\n")
    assert mirror.differences(tmp_path) == [
        "tf:extra.py",
        "tf:model.py:Encoder.forward(-mask)",
        "tf:model.py:Encoder.forward(+other)",
        "flax:model.py:-Encoder",
        "flax:model.py:order of classes: B, A instead of A, B",
        "flax:model.py:-Encoder.forward",
        "flax:model.py:+helper",
    ]
