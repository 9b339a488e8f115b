"""Runs of `wav2vec2 finetune` and `wav2vec2 pretrain` that are killed twenty times, at any moment."""

import importlib.util
import os

import pytest
from killed_runs import check_killed
from pretraining_cases import SMALL
from tone_speech import write_tones

from wav2vec2_core.transcription import EMBEDDED_MODEL

#: Largest difference of a parameter at the end; none at all for 0.
LIMITS = {"torch": 0, "flax": 0, "tf": 1e-6}
FRAMEWORKS = {"torch": "torch", "flax": "jax", "tf": "tensorflow"}
SETTINGS = {
    "schedule.frozen": 0.1, "evaluation.every": 15, "checkpoints.every": 2, "model.mask_time_prob": 0.05,
    "model.mask_feature_prob": 0.05, "model.mask_feature_length": 8,
}  # fmt: skip
#: JAX compiles quickly, and all the same each time.
FLAGS = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
pytestmark = [pytest.mark.slow, pytest.mark.parametrize("backend", LIMITS)]


@pytest.fixture
def manifest(backend, tmp_path):
    if importlib.util.find_spec(FRAMEWORKS[backend]) is None:
        pytest.skip(f"{FRAMEWORKS[backend]} is not installed")
    (tmp_path / "tones").mkdir()
    return write_tones(tmp_path / "tones", 12)


def test_finetuning_that_is_killed_again_and_again(backend, manifest, tmp_path):
    settings = [part for name, value in SETTINGS.items() for part in ("--set", f"{name}={value}")]

    def arguments(output):
        return [
            "finetune", "ctc", "--model", EMBEDDED_MODEL, "--train", manifest, "--eval", manifest, "--preset", "10min",
            "--output", output, "--steps", 60, "--batch-seconds", 6, "--learning-rate", 1e-3, "--backend", backend,
            *settings, "--resume",
        ]  # fmt: skip

    check_killed(arguments, tmp_path, limit=LIMITS[backend])


def test_pretraining_that_is_killed_again_and_again(backend, manifest, tmp_path):
    chosen = (*(one for one in SMALL if "steps" not in one), "data.micro_batch_seconds=4")  # one shape
    settings = [part for setting in chosen for part in ("--set", setting)]

    def arguments(output):
        return [
            "pretrain", "--preset", "tiny", "--train", manifest, "--output", output, "--backend", backend, *settings,
            "--steps", 240, "--device", "cpu", "--resume",
        ]  # fmt: skip

    cache = {"JAX_COMPILATION_CACHE_DIR": str(tmp_path / "compiled"), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    environment = {**os.environ, "XLA_FLAGS": FLAGS, "JAX_PLATFORMS": "cpu", **cache}
    check_killed(arguments, tmp_path, limit=LIMITS[backend], environment=environment)
