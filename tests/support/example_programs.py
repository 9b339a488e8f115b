"""Programs of `examples/`, run on tones as their users run them."""

import importlib.util
from pathlib import Path
from statistics import fmean

import numpy as np
from safetensors.numpy import load_file
from tone_speech import write_tones

from wav2vec2_core.transcription import EMBEDDED_MODEL, Transcriber

FOLDER = Path(__file__).parent.parent.parent / "examples"


def check_example(name, folder, backend, *arguments):
    """The loss falls, all but the feature encoder has changed, and the new model transcribes."""
    specification = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    program = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(program)
    (folder / "data").mkdir()
    manifest, output = write_tones(folder / "data", 12), folder / "model"
    options = ["--output", output, "--batch-seconds", 6, "--learning-rate", 1e-3, *arguments]
    losses = program.main([str(manifest), *map(str, options)])
    third = len(losses) // 3
    assert fmean(losses[-third:]) < 0.8 * fmean(losses[:third])
    before, after = (load_file(path / "model.safetensors") for path in (EMBEDDED_MODEL, output))
    frozen = [key for key in before if ".feature_extractor." in key]
    assert all(np.array_equal(before[key], after[key]) for key in frozen)
    assert not np.array_equal(before["lm_head.weight"], after["lm_head.weight"])
    assert isinstance(Transcriber(output, backend=backend).transcribe(folder / "data" / "0.wav").text, str)
