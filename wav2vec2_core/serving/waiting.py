"""Waiting for the engine on behalf of a client, as long as the client is there."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Future
from contextlib import AsyncExitStack
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from wav2vec2_core.captions import TimedWord
from wav2vec2_core.serving.answers import delta
from wav2vec2_core.serving.refusals import refusal_of
from wav2vec2_core.transcription import Transcript

T = TypeVar("T")


async def result_for(request: Request, future: Future[T]) -> T:
    """The result of a request whose body was read.

    Raises:
        ClientDisconnect: the client went away.
    """
    waiting = asyncio.ensure_future(asyncio.wrap_future(future))
    gone = asyncio.ensure_future(_until_gone(request.receive))
    try:
        await asyncio.wait({waiting, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not waiting.done():
            raise ClientDisconnect
        return waiting.result()
    finally:
        gone.cancel()
        waiting.add_done_callback(_seen)


async def _until_gone(receive: Callable[[], Awaitable[Any]]) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _seen(future: asyncio.Future[Any]) -> None:
    """An error that nobody waits for is no news."""
    if not future.cancelled():
        future.exception()


class Heard:
    """Words of a transcript that an engine's thread tells of, for a coroutine."""

    def __init__(self) -> None:
        self._loop, self._queue = asyncio.get_running_loop(), asyncio.Queue[Sequence[TimedWord] | None]()

    def __call__(self, words: Sequence[TimedWord]) -> None:
        self._tell(words)

    def end(self, future: Future[Any]) -> None:
        """No more words follow."""
        self._tell(None)

    async def next(self) -> Sequence[TimedWord] | None:
        """The next words; ``None`` at the end."""
        return await self._queue.get()

    def _tell(self, words: Sequence[TimedWord] | None) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._queue.put_nowait, words)


class TranscriptStream(Response):
    """A transcript as server-sent events, as it becomes final."""

    def __init__(
        self,
        heard: Heard,
        future: Future[Transcript],
        held: AsyncExitStack,
        done: Callable[[Transcript], dict[str, Any]],
    ) -> None:
        """``held``: is closed at the end: the request's place and its recording; ``done``: makes the last event."""
        super().__init__(media_type="text/event-stream", headers={"cache-control": "no-cache"})
        del self.headers["content-length"]
        self._heard, self._future, self._held, self._done = heard, future, held, done
        future.add_done_callback(heard.end)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Send until the end of the transcript, or of the connection."""
        sending = asyncio.ensure_future(self._send_all(send))
        gone = asyncio.ensure_future(_until_gone(receive))
        try:
            async with self._held:
                await asyncio.wait({sending, gone}, return_when=asyncio.FIRST_COMPLETED)
                if sending.done():
                    sending.result()
        finally:
            sending.cancel()
            gone.cancel()

    async def _send_all(self, send: Any) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        is_first = True
        while (words := await self._heard.next()) is not None:
            for word in words:
                await self._event(send, delta(word, is_first=is_first))
                is_first = False
        try:
            transcript = self._future.result()
        except Exception as error:
            await self._event(send, refusal_of(error).body)
        else:
            await self._event(send, self._done(transcript))
        await send({"type": "http.response.body", "body": b"data: [DONE]\n\n"})

    async def _event(self, send: Any, event: dict[str, Any]) -> None:
        body = f"data: {json.dumps(event, ensure_ascii=False)}\n\n".encode()
        await send({"type": "http.response.body", "body": body, "more_body": True})
