"""What JAX compiled is kept for later runs; whatever happens to the files, numbers are the same."""

import logging
import subprocess
import sys

import jax
import numpy as np
import pytest

from wav2vec2_core.backend import COMPILING
from wav2vec2_core.files import user_cache_folder
from wav2vec2_flax.compiled import Compiled, keep_compiled_code

PROGRAM = """
import jax, numpy as np, sys, warnings
from pathlib import Path
from wav2vec2_core.files import user_cache_folder
from wav2vec2_core.transcription import EMBEDDED_MODEL
from wav2vec2_flax import compiled
from wav2vec2_flax.inference import load_model

compiled.WORTH_KEEPING = 0.0
events = []
jax.monitoring.register_event_listener(lambda name, **_: events.append(name.rpartition("/")[2]))
waveform = np.random.default_rng(0).standard_normal(7_000).astype(np.float32)

def run():
    del events[:]
    jax.clear_caches()
    made = load_model(EMBEDDED_MODEL, device="cpu").logits([waveform])[0]
    return made, events.count("cache_hits"), events.count("cache_misses")

first, hits, misses = run()
assert not hits and misses, events
again, hits, misses = run()
assert hits and not misses, events
(folder,) = user_cache_folder("jax").iterdir()
(kept,) = folder.glob("jit__scores-*-cache")
content = kept.read_bytes()
for damaged in (content[: len(content) // 2], content[:5000] + bytes([content[5000] ^ 1]) + content[5001:]):
    kept.write_bytes(damaged)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        other, hits, misses = run()
    assert misses == 1, events
    assert "compilation cache" in str(caught[0].message)
    assert np.array_equal(other, first)
assert np.array_equal(again, first)
unused = {"scipy", "numba", "torch", "tensorflow", "orbax", "wav2vec2_core.training", "wav2vec2_core.serving"}
assert not unused & set(sys.modules), "the start is for what is used"
"""


def test_later_runs_compile_nothing_and_damaged_files_change_no_number(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path))
    monkeypatch.setenv("JAX_ENABLE_COMPILATION_CACHE", "true")
    subprocess.run([sys.executable, "-c", PROGRAM], check=True)


@pytest.fixture
def settings(tmp_path, monkeypatch):
    """JAX's own settings, as they are without those of the tests; gives the user's cache folder."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path))
    names = (
        "jax_enable_compilation_cache",
        "jax_compilation_cache_dir",
        "jax_persistent_cache_min_compile_time_secs",
    )
    before = {name: getattr(jax.config, name) for name in names}
    jax.config.update("jax_enable_compilation_cache", True)
    yield user_cache_folder("jax")
    for name, value in before.items():
        jax.config.update(name, value)


def test_a_folder_for_each_processor(settings, monkeypatch):
    keep_compiled_code()
    first = jax.config.jax_compilation_cache_dir
    assert first.startswith(str(settings))
    jax.config.update("jax_compilation_cache_dir", None)
    monkeypatch.setattr("wav2vec2_flax.compiled.processor", lambda: "another one")
    keep_compiled_code()
    assert jax.config.jax_compilation_cache_dir != first
    assert len(list(settings.iterdir())) == 2


def test_what_a_program_has_chosen_stays(settings, tmp_path):
    jax.config.update("jax_compilation_cache_dir", str(tmp_path / "its own"))
    keep_compiled_code()
    assert jax.config.jax_compilation_cache_dir == str(tmp_path / "its own")
    jax.config.update("jax_compilation_cache_dir", None)
    jax.config.update("jax_enable_compilation_cache", False)
    keep_compiled_code()
    assert jax.config.jax_compilation_cache_dir is None
    assert not settings.exists()


def test_a_folder_that_cannot_be_written(settings):
    settings.parent.mkdir(parents=True)
    settings.write_text("a file in its place")
    keep_compiled_code()
    assert jax.config.jax_compilation_cache_dir is None


def test_each_shape_is_announced_once(caplog):
    double = Compiled(lambda factor, array: factor * array)
    with caplog.at_level(logging.INFO, logger=COMPILING.name):
        for length in (2, 3, 2):
            assert double(2.0, np.ones((1, length), np.float32)).sum() == 2 * length
    assert caplog.messages == ["JAX compiles for 1 x 2", "JAX compiles for 1 x 3"]
