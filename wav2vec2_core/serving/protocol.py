"""HTTP as uvicorn reads it, with a clock: who connects must ask."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from wav2vec2_core.serving.refusals import Refusal

#: Seconds from a connection, or the first byte of a further request, to the end of the request's headers.
_PATIENCE = 20.0


class TimedProtocol(H11Protocol):
    """A connection. Between requests uvicorn's own time-out holds; bodies are timed by ``uploads.chunks``."""

    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop()
        super().connection_lost(exc)

    def _watch(self) -> None:
        if self.conn.their_state is not h11.IDLE:
            self._stop()
        elif self._deadline is None:
            self._deadline = self.loop.call_later(_PATIENCE, self._end)

    def _stop(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _end(self) -> None:
        if self.transport.is_closing():
            return
        refusal = Refusal(408, "the headers of the request came too slowly: send it again", code="timeout")
        body = json.dumps(refusal.body).encode()
        headers = {"content-type": "application/json", "content-length": str(len(body)), "connection": "close"}
        answer = h11.Response(status_code=408, headers=list(headers.items()), reason=b"Request Timeout")
        for event in (answer, h11.Data(data=body), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()
