"""What every request passes: the key, the clock, and a limit for clients that do not read their answers."""

from __future__ import annotations

import asyncio
import hmac
import json
import time
from typing import Any

from starlette.datastructures import Headers

from wav2vec2_core.serving.metrics import Metrics
from wav2vec2_core.serving.page import page_files
from wav2vec2_core.serving.refusals import Refusal

#: Answered without the key: load balancers ask these, and the page asks for the key.
_OPEN = ("/health", "/ping", *page_files())
#: Seconds that a client may take to read what was sent.
_PATIENCE = 60.0
#: How browsers send a key, which can set no header of a websocket.
_SUBPROTOCOL = "openai-insecure-api-key."


class Unread(Exception):  # noqa: N818 (an event)
    """The client does not read its answer."""


class Guard:
    """An ASGI application around another one."""

    def __init__(self, app: Any, *, api_key: str | None, metrics: Metrics) -> None:
        self._app, self._key, self._metrics = app, api_key, metrics

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """One request or connection."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        if not self._is_allowed(scope):
            refusal = Refusal(
                401,
                "the key is missing or wrong: send the header Authorization: Bearer KEY",
                code="invalid_api_key",
                headers={"www-authenticate": "Bearer"},
            )
            await _refuse(scope, receive, send, refusal)
            if scope["type"] == "http":
                self._metrics.answered("refused", 401, 0.0)
            return
        if scope["type"] == "websocket":
            await self._app(scope, receive, send)
            return
        started, status, is_lost = time.perf_counter(), 0, False

        async def watched(message: Any) -> None:
            nonlocal status, is_lost
            if is_lost:
                raise Unread
            if message["type"] == "http.response.start":
                status = message["status"]
            try:
                await asyncio.wait_for(send(message), _PATIENCE)
            except TimeoutError:
                is_lost = True
                raise Unread from None

        try:
            await self._app(scope, receive, watched)
        except Unread:
            return  # the connection is closed without the rest
        finally:
            self._metrics.answered(scope.get("counted_as", "other"), status, time.perf_counter() - started)

    def _is_allowed(self, scope: Any) -> bool:
        if self._key is None or scope["path"] in _OPEN:
            return True
        headers = Headers(scope=scope)
        scheme, _, sent = headers.get("authorization", "").partition(" ")
        given = [sent.strip()] if scheme.lower() == "bearer" else []
        given += [
            one.removeprefix(_SUBPROTOCOL) for one in scope.get("subprotocols", []) if one.startswith(_SUBPROTOCOL)
        ]
        return any(hmac.compare_digest(one.encode(), self._key.encode()) for one in given)


async def _refuse(scope: Any, receive: Any, send: Any, refusal: Refusal) -> None:
    """Answer without asking the application; a websocket gets the same answer in place of the handshake."""
    prefix = "http"
    if scope["type"] == "websocket":
        await receive()  # the handshake
        if "websocket.http.response" not in scope.get("extensions", {}):
            await send({"type": "websocket.close", "code": 1008, "reason": str(refusal)})
            return
        prefix = "websocket.http"
    body = json.dumps(refusal.body).encode()
    headers = {"content-type": "application/json", "content-length": str(len(body)), **refusal.headers}
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    await send({"type": f"{prefix}.response.start", "status": refusal.status, "headers": raw})
    await send({"type": f"{prefix}.response.body", "body": body})
