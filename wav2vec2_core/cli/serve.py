"""``wav2vec2 serve``: an HTTP server over one model."""

from __future__ import annotations

import ipaddress
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from wav2vec2_core.cli.options import BackendName, DeviceName, DtypeName, Language, LanguageModel, ModelName, Offline

if TYPE_CHECKING:
    from wav2vec2_core.serving.engine import Engine
    from wav2vec2_core.serving.metrics import Metrics


def serve(
    model: ModelName = None,
    host: Annotated[
        str, typer.Option(help="Address to listen on; 0.0.0.0 for every one of this machine.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes any that is free.")] = 8000,
    api_key: Annotated[
        str | None, typer.Option(envvar="WAV2VEC2_API_KEY", help="Key that clients must send.", show_envvar=True)
    ] = None,
    backend: BackendName = "torch",
    device: DeviceName = "auto",
    dtype: DtypeName = "float32",
    language: Language = None,
    lm: LanguageModel = "auto",
    max_upload_mb: Annotated[float, typer.Option(help="Megabytes of a request.")] = 512.0,
    max_seconds: Annotated[float, typer.Option(help="Seconds of a recording.")] = 14_400.0,
    max_queue: Annotated[int, typer.Option(help="Requests at a time; others are told when to come again.")] = 256,
    batch_seconds: Annotated[float, typer.Option(help="Audio that goes through the model at a time.")] = 60.0,
    batch_wait_ms: Annotated[float, typer.Option(help="Wait for more requests on their way to fill a batch.")] = 5.0,
    offline: Offline = False,
) -> None:
    """Transcribe, align, classify and embed over HTTP, as OpenAI's clients ask; live speech over websockets.

    SIGTERM answers what was accepted and ends.
    """
    from wav2vec2_core.cli.console import note_embedded_model
    from wav2vec2_core.errors import BackendError, InputError

    if not 0 < max_upload_mb < float("inf"):
        raise InputError(f"--max-upload-mb {max_upload_mb} is not possible: give a number above 0")
    if api_key == "":
        raise InputError("--api-key is empty: give a key, or leave it out")
    try:
        from wav2vec2_core.serving.server import listen
        from wav2vec2_core.serving.server import serve as run
    except ImportError as error:
        raise BackendError(
            f'serving needs {error.name}, which is not installed: pip install "wav2vec2-frameworks[serve]"'
        ) from error
    from wav2vec2_core.serving.engine import Engine, Limits
    from wav2vec2_core.transcription import EMBEDDED_MODEL

    limits = Limits(max_queue, max_seconds, batch_seconds, batch_wait_ms / 1000)
    listening = listen(host, port)
    if api_key is None and not _is_loopback(listening.getsockname()[0]):
        print(
            f"warning: {host} can be reached from other machines and there is no --api-key: anybody there can use it",
            file=sys.stderr,
        )
    if model is None:
        note_embedded_model()

    def load(metrics: Metrics) -> Engine:
        return Engine(
            model or EMBEDDED_MODEL,
            backend=backend,
            device=device,
            dtype=dtype,
            language=language,
            lm=lm,
            local_files_only=offline,
            limits=limits,
            watcher=metrics.watch,
        )

    def ready(engine: Engine, address: str) -> None:
        print(f"{engine.name} answers at {address}", file=sys.stderr, flush=True)

    run(listening, load, api_key=api_key, upload_mb=max_upload_mb, ready=ready)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return False
