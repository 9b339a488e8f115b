"""The paths by which users import: what stands in ``support/public_names.json`` stays importable from there."""

import importlib
import json
from pathlib import Path

import pytest

FROZEN = json.loads((Path(__file__).parent / "support" / "public_names.json").read_text())
FRAMEWORKS = {"wav2vec2_torch": "torch", "wav2vec2_tf": "tensorflow", "wav2vec2_flax": "jax"}


@pytest.mark.parametrize("module", FROZEN)
def test_public_names_stay_where_they_are(module):
    if framework := FRAMEWORKS.get(module.split(".")[0]):
        pytest.importorskip(framework, reason=f"{module} needs {framework}")
    found = importlib.import_module(module)
    missing = [name for name in FROZEN[module] if not hasattr(found, name)]
    assert not missing, f"{module} no longer has {missing}"
