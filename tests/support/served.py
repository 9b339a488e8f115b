"""Servers over the embedded model, in a thread each, on a port that is free."""

import http.client
import json
import threading
import time
from contextlib import contextmanager
from types import SimpleNamespace

from wav2vec2_core.serving.engine import Engine, Limits
from wav2vec2_core.serving.http import create_app
from wav2vec2_core.serving.metrics import Metrics
from wav2vec2_core.serving.server import Server, listen

BOUNDARY = "a-boundary"


@contextmanager
def running(folder, *, api_key=None, upload_mb=512.0, **limits):
    """A server: its engine, address and port, the folder of its uploads, ``ask`` and ``send``."""
    metrics = Metrics()
    folder.mkdir(exist_ok=True)
    with Engine(limits=Limits(**limits), watcher=metrics.watch) as engine, listen("127.0.0.1", 0) as listening:
        port, ready = listening.getsockname()[1], threading.Event()
        app = create_app(engine, folder, metrics=metrics, api_key=api_key, upload_mb=upload_mb)
        server = Server(app, ready.set)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        assert ready.wait(60)

        def ask(method, path, body=None, headers=None):
            """Status, headers and body; JSON where it is."""
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=600)
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            content = answer.read()
            connection.close()
            is_json = (answer.headers["content-type"] or "").startswith("application/json")
            return answer.status, answer.headers, json.loads(content) if is_json else content

        def send(path, file=None, name="speech.flac", **fields):
            return ask("POST", path, *form(file, name, **fields))

        url = f"http://127.0.0.1:{port}"
        try:
            yield SimpleNamespace(engine=engine, app=app, port=port, url=url, folder=folder, ask=ask, send=send)
        finally:
            server.should_exit = True
            thread.join(60)
        assert not thread.is_alive()


def wait_until_empty(server):
    """An answer may be here a moment before its place is free and its file gone."""
    deadline = time.monotonic() + 60
    while server.engine.waiting or list(server.folder.iterdir()):
        assert time.monotonic() < deadline, list(server.folder.iterdir())
        time.sleep(0.02)


def form(file=None, name="speech.flac", **fields):
    """Body and headers of a multipart form; a list is a field given several times, ``x__`` the field ``x[]``."""
    parts = []
    for key, values in fields.items():
        shown = f"{key[:-2]}[]" if key.endswith("__") else key
        for value in values if isinstance(values, list) else [values]:
            content = value if isinstance(value, bytes) else str(value).encode()
            parts.append(f'Content-Disposition: form-data; name="{shown}"\r\n\r\n'.encode() + content)
    if file is not None:
        shown = name if isinstance(name, bytes) else name.encode()
        parts.append(b'Content-Disposition: form-data; name="file"; filename="' + shown + b'"\r\n\r\n' + file)
    body = b"".join(b"--" + BOUNDARY.encode() + b"\r\n" + part + b"\r\n" for part in parts)
    return body + f"--{BOUNDARY}--\r\n".encode(), {"content-type": f"multipart/form-data; boundary={BOUNDARY}"}
