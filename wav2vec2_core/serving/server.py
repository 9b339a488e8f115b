"""The server as a process: its address, its signals, its end."""

from __future__ import annotations

import ctypes
import errno
import logging
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import uvicorn

from wav2vec2_core.errors import InputError
from wav2vec2_core.serving.engine import Engine
from wav2vec2_core.serving.http import create_app
from wav2vec2_core.serving.metrics import Metrics
from wav2vec2_core.serving.protocol import TimedProtocol
from wav2vec2_core.temporaries import temporary_folder

#: Connections that may wait while the model is loaded.
_BACKLOG = 1024
#: Of mallopt(3), glibc: how many arenas there are.
_M_ARENA_MAX = -8
#: Bytes of one websocket frame: OpenAI's limit, 15 MiB of base64 with its event.
_FRAME = 16 << 20


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens. ``port`` 0: any that is free. Raises ``InputError``."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0][0]
        return socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise InputError(f"port {port} of {host} is taken by another program: use another --port") from error
        reason = error.strerror or error
        raise InputError(f"{host[:100]}:{port} cannot be listened on ({reason}): check --host and --port") from error
    except UnicodeError as error:
        raise InputError(f"{host[:100]!r} is no address: check --host") from error


def serve(
    listening: socket.socket,
    load: Callable[[Metrics], Engine],
    *,
    api_key: str | None = None,
    upload_mb: float = 512.0,
    ready: Callable[[Engine, str], None] = lambda engine, address: None,
) -> None:
    """Load a model and answer requests until SIGTERM or SIGINT; what was accepted is answered first.

    Args:
        listening: as ``listen`` returns it; connections wait in it while the model is loaded.
        load: makes the engine.
        api_key, upload_mb: as ``create_app`` takes them.
        ready: called with the engine and the address once requests are answered.

    Raises:
        CheckpointError, InputError, BackendError: as ``load``.
    """
    _share_freed_memory()
    metrics = Metrics()
    with listening, load(metrics) as engine, temporary_folder(Path(tempfile.gettempdir()) / "wav2vec2-serve") as folder:
        app = create_app(engine, folder, metrics=metrics, api_key=api_key, upload_mb=upload_mb)
        host, port = listening.getsockname()[:2]
        address = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
        _log_to_stderr()
        Server(app, lambda: ready(engine, address)).run(sockets=[listening])


def _share_freed_memory() -> None:
    """Threads share one arena: glibc keeps what a thread freed for that thread, megabytes for each of ours."""
    with suppress(OSError, TypeError, AttributeError):  # another C library
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 1)


class Server(uvicorn.Server):
    """uvicorn with our settings. It ends with code 0 on a signal: uvicorn's own would raise it again."""

    def __init__(self, app: Any, ready: Callable[[], None]) -> None:
        """``ready``: called once requests are answered."""
        config = uvicorn.Config(
            app,
            http=TimedProtocol,
            ws="websockets-sansio",
            ws_max_size=_FRAME,
            # A client that sends faster than the model hears has its pong behind its samples; see realtime._IDLE.
            ws_ping_timeout=None,
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
        )
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._ready()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        def end(number: int, frame: Any) -> None:
            self.handle_exit(number, frame)

        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _log_to_stderr() -> None:
    """Warnings and errors, a line each."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(levelname)s: %(message)s"))
    for name in ("uvicorn.error", "wav2vec2.serve"):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(logging.WARNING)
