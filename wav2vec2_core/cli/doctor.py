"""``wav2vec2 doctor``: tries what works on this machine, and names the remedy for what does not."""

from __future__ import annotations

import typer

#: Extra -> what it is for, and the modules that it brings; ``media`` and the back ends are tried, not only looked for.
EXTRAS = {
    "lm": ("fast decoding with language models", ("numba",)),
    "train": ("error rates and curves", ("jiwer", "tensorboard", "matplotlib")),
    "plot": ("pictures", ("matplotlib",)),
    "serve": ("the server", ("starlette", "uvicorn", "python_multipart", "websockets", "prometheus_client")),
    "bulk": ("clusters and object stores", ("ray", "fsspec", "pyarrow")),
    "onnx": ("ONNX programs", ("onnx", "onnxscript", "onnxruntime", "jiwer")),
    "openvino": ("OpenVINO programs", ("openvino", "onnx", "onnxscript", "onnxruntime", "jiwer")),
    "tpu": ("compiling for TPUs without one", ("libtpu",)),
}


def doctor() -> None:
    """Check which back ends, devices and extras work here. Exit code 1 when no back end works."""
    import platform
    from importlib.metadata import version

    from wav2vec2_core.backend import backend_names

    _row(True, "wav2vec2-frameworks", f"{version('wav2vec2-frameworks')} on Python {platform.python_version()}")
    for package in ("numpy", "safetensors", "huggingface_hub", "soundfile", "soxr"):
        _row(True, package, version(package))
    working = [_check_backend(name) for name in backend_names()]
    _check_media()
    for extra in EXTRAS:
        _check_extra(extra)
    _check_hub()
    if not any(working):
        raise typer.Exit(1)


def _check_backend(name: str) -> bool:
    """Load the embedded model and run it on a second of silence."""
    import numpy as np

    from wav2vec2_core.backend import load_backend
    from wav2vec2_core.errors import Wav2Vec2Error
    from wav2vec2_core.transcription import EMBEDDED_MODEL

    try:
        backend = load_backend(name)
        devices = backend.inference.devices()
        summaries = []
        for device in devices:
            model = backend.inference.load_model(EMBEDDED_MODEL, device=device)
            model.logits([np.zeros(16_000, np.float32)])
            summaries.append(model.summary())
        kernels = backend.inference.chosen_kernels()
    except Wav2Vec2Error as error:
        _row(False, f"back end {name}", str(error).splitlines()[0])
        return False
    _row(True, f"back end {name}", f"ran the embedded model on {', '.join(devices)}: {summaries[0]}")
    if kernels:
        _row(True, f"kernels {name}", f"for this processor: {'; '.join(kernels)}")
    return True


def _check_media() -> None:
    try:
        import av

        _row(True, "extra media", f"PyAV {av.__version__}: video, m4a and other containers")
    except ImportError:
        remedy = 'for video and m4a: pip install "wav2vec2-frameworks[media]"'
        _row(False, "extra media", f"PyAV is not installed; {remedy}")


def _check_extra(extra: str) -> None:
    """Whether its modules are there; importing them all would take long."""
    from importlib.util import find_spec

    purpose, modules = EXTRAS[extra]
    missing = [module for module in modules if find_spec(module) is None]
    if missing:
        lacking = f"{', '.join(missing)} {'is' if len(missing) == 1 else 'are'} not installed"
        _row(False, f"extra {extra}", f'{lacking}; for {purpose}: pip install "wav2vec2-frameworks[{extra}]"')
    else:
        _row(True, f"extra {extra}", f"{', '.join(modules)}: {purpose}")


def _check_hub() -> None:
    from huggingface_hub import constants

    state = "offline (HF_HUB_OFFLINE is set)" if constants.HF_HUB_OFFLINE else "online allowed"
    _row(True, "hub", f"{state}, cache in {constants.HF_HUB_CACHE}")


def _row(works: bool, name: str, text: str) -> None:
    print(f"{'ok' if works else '--'}  {name:<20}  {text}")
