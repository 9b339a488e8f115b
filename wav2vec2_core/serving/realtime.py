"""Live speech over websockets: the events of OpenAI's realtime transcription sessions, and plain samples."""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import logging
import uuid
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from starlette.responses import JSONResponse
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from wav2vec2_core.audio.raw import PCM_TYPES, PcmDecoder
from wav2vec2_core.errors import AudioError, brief, listed
from wav2vec2_core.serving.engine import Engine, Live, LiveStream, Place
from wav2vec2_core.serving.fields import Fields, check_model, words_of
from wav2vec2_core.serving.refusals import Refusal, refusal_of

#: Seconds that a client may be silent, and take to read what was sent.
_IDLE, _PATIENCE = 300.0, 60.0
_RATES = (16_000, 24_000)
#: Milliseconds without a word that end a stretch of speech, where the server finds the ends and is not told how.
_SILENCE = 1000

logger = logging.getLogger("wav2vec2.serve")


def websocket_routes(engine: Engine) -> list[WebSocketRoute]:
    """``/v1/realtime`` and ``/v1/stream``."""

    async def realtime(socket: WebSocket) -> None:
        await _serve(socket, engine, _Session)

    async def stream(socket: WebSocket) -> None:
        await _serve(socket, engine, _Plain)

    return [WebSocketRoute("/v1/realtime", realtime), WebSocketRoute("/v1/stream", stream)]


async def _serve(socket: WebSocket, engine: Engine, kind: Callable[..., _Session | _Plain]) -> None:
    """One connection: refused before the handshake, or served until one side leaves."""
    try:
        place = engine.place()
    except Exception as error:
        await _refuse(socket, error)
        return
    with place:
        try:
            session = kind(socket, engine, place)
            await session.prepare()
        except Exception as error:
            await _refuse(socket, error)
            return
        wanted = [name for name in socket.scope.get("subprotocols", []) if name == "realtime"]
        await socket.accept(subprotocol=wanted[0] if wanted else None)
        code, reason = 1000, ""
        try:
            await session.run()
        except WebSocketDisconnect:
            return
        except TimeoutError:
            code, reason = 1001, f"nothing was sent for {_IDLE:g} s, or nothing read for {_PATIENCE:g} s"
        except Refusal as refusal:
            code, reason = 1007, str(refusal)[:120]
        except Exception as error:
            logger.error("%s: %s: %s", socket.url.path, type(error).__name__, error)
            code, reason = 1011, "the server failed, its log says more"
        try:
            await asyncio.wait_for(socket.close(code, reason), _PATIENCE)
        except (RuntimeError, TimeoutError, WebSocketDisconnect):
            return


async def _refuse(socket: WebSocket, error: Exception) -> None:
    refusal = refusal_of(error)
    await socket.send_denial_response(JSONResponse(refusal.body, refusal.status, refusal.headers))


class _Connection:
    """What both kinds share."""

    def __init__(self, socket: WebSocket, engine: Engine, place: Place) -> None:
        self.socket, self.engine, self.place = socket, engine, place

    async def receive(self) -> str | bytes:
        """The next frame. Raises ``WebSocketDisconnect`` and ``TimeoutError``."""
        message = await asyncio.wait_for(self.socket.receive(), _IDLE)
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(message.get("code", 1005))
        text = message.get("text")
        return text if text is not None else message.get("bytes") or b""

    async def send(self, content: Mapping[str, Any]) -> None:
        """Send JSON. Raises ``TimeoutError`` where the client does not read."""
        text = json.dumps(content, ensure_ascii=False)
        await asyncio.wait_for(self.socket.send_text(text), _PATIENCE)

    async def open(self, rate: int, language: str | None, hotwords: tuple[str, ...]) -> LiveStream:
        """A stream of the engine. Raises ``InputError``."""

        def make() -> LiveStream:
            own = self.engine.check_language(language)
            return self.place.stream(rate, language=own, hotwords=hotwords)

        return await asyncio.to_thread(make)


class _Plain(_Connection):
    """Samples in binary frames, cut anywhere; for each, JSON with ``text`` that is final and ``partial`` text.

    The text frame ``end`` ends the stream: the rest comes with ``"final": true``.
    """

    async def prepare(self) -> None:
        """Read the address: ``rate`` (16000), ``format`` (s16le), ``language``, ``prompt``."""
        given: dict[str, list[str]] = {}
        for name, value in self.socket.query_params.multi_items():
            given.setdefault(name, []).append(value)
        fields = Fields(given, ("rate", "format", "language", "prompt"))
        self._decoder = PcmDecoder(fields.choice("format", PCM_TYPES, "s16le"))
        rate = int(fields.number("rate", 8000, 192_000, 16_000))
        self._stream = await self.open(rate, fields.text("language"), fields.hotwords)

    async def run(self) -> None:
        """Serve it."""
        while True:
            frame = await self.receive()
            if isinstance(frame, str):
                if frame.strip() != "end":
                    raise Refusal(422, "text frames say end: send samples in binary frames")
                break
            update = await asyncio.wrap_future(self._stream.feed(self._samples(frame)))
            if update.stable or update.partial:
                await self.send({"text": update.stable, "partial": update.partial})
        last = await asyncio.wrap_future(self._stream.finish())
        await self.send({"text": last.stable, "partial": "", "final": True, "leftover_bytes": len(self._decoder.held)})

    def _samples(self, frame: bytes) -> np.ndarray:
        try:
            return self._decoder.feed(frame)
        except AudioError as error:
            raise Refusal(422, "samples are NaN or infinite: check the format") from error


class _Session(_Connection):
    """A realtime transcription session: append, commit, clear; deltas as words become final, then completed."""

    async def prepare(self) -> None:
        """Read the address. ``intent=transcription`` is the one intent."""
        query = self.socket.query_params
        if query.get("intent", "transcription") != "transcription":
            raise Refusal(422, f"intent {brief(query['intent'])} is unknown: use transcription", param="intent")
        check_model(query.get("model") or None, self.engine)
        self._rate, self._language, self._prompt = 24_000, None, ""
        self._silence: int | None = None
        self._stream = await self.open(self._rate, None, ())
        self._last_item: str | None = None
        self._new_item()

    async def run(self) -> None:
        """Serve it; what is wrong with an event is said in an event."""
        await self.event("session.created", session=self._described())
        while True:
            frame = await self.receive()
            event_id = None
            try:
                event = _event_in(frame)
                event_id = event.get("event_id")
                await self._handle(event)
            except (WebSocketDisconnect, TimeoutError):
                raise
            except Exception as error:
                refusal = refusal_of(error)
                if refusal.status >= 500:
                    logger.error("/v1/realtime: %s: %s", type(error).__name__, error)
                told = {**refusal.body["error"], "event_id": event_id if isinstance(event_id, str) else None}
                await self.event("error", error=told)

    async def event(self, kind: str, **content: Any) -> None:
        """Send an event."""
        await self.send({"type": kind, "event_id": _new_id("event"), **content})

    async def _handle(self, event: Mapping[str, Any]) -> None:
        match event.get("type"):
            case "session.update" | "transcription_session.update":
                await self._update(event.get("session"))
                await self.event(f"{event['type']}d", session=self._described())
            case "input_audio_buffer.append":
                samples = _samples_of(event.get("audio"))
                self._seconds += len(samples) / self._rate
                update = await asyncio.wrap_future(self._stream.feed(samples))
                await self._delta(update)
                if self._silence is not None and 1000 * update.silence >= self._silence:
                    await self._commit()
            case "input_audio_buffer.commit":
                if self._seconds == 0:
                    raise Refusal(
                        422, "the buffer is empty: append audio first", code="input_audio_buffer_commit_empty"
                    )
                await self._commit()
            case "input_audio_buffer.clear":
                self._stream.drop()
                self._new_item()
                await self.event("input_audio_buffer.cleared")
            case unknown:
                raise Refusal(
                    422,
                    f"event {brief(unknown)} is unknown: use session.update, input_audio_buffer.append ...",
                    param="type",
                )

    async def _delta(self, update: Live) -> None:
        if update.stable:
            delta = update.stable if not self._text else f" {update.stable}"
            self._text += delta
            await self.event(
                "conversation.item.input_audio_transcription.delta", item_id=self._item, content_index=0, delta=delta
            )

    async def _commit(self) -> None:
        """End the item: committed, its last words, completed."""
        item, previous = self._item, self._last_item
        await self.event("input_audio_buffer.committed", item_id=item, previous_item_id=previous)
        content = [{"type": "input_audio", "transcript": None}]
        made = {"id": item, "object": "realtime.item", "type": "message", "status": "completed", "role": "user"}
        await self.event("conversation.item.created", previous_item_id=previous, item={**made, "content": content})
        await self._delta(await asyncio.wrap_future(self._stream.finish()))
        await self.event(
            "conversation.item.input_audio_transcription.completed",
            item_id=item,
            content_index=0,
            transcript=self._text,
            usage={"type": "duration", "seconds": round(self._seconds, 3)},
        )
        self._last_item = item
        self._new_item()

    def _new_item(self) -> None:
        self._item, self._text, self._seconds = _new_id("item"), "", 0.0

    async def _update(self, session: Any) -> None:
        """Change what a ``session.update`` names, all of it or, where something is wrong, nothing."""
        wanted = _session_in(session)
        if self._seconds and wanted:
            raise Refusal(422, "the session cannot change while audio is in its buffer: commit or clear it first")
        model = wanted.get("model")
        check_model(None if model is None else str(model) or None, self.engine)
        rate = wanted.get("rate", self._rate)
        if rate not in _RATES:
            raise Refusal(
                422, f"rate {brief(rate)} is not possible: use 24000 or 16000", param="session.audio.input.format"
            )
        language, prompt = wanted.get("language", self._language), wanted.get("prompt", self._prompt) or ""
        for name, value in (("language", language or ""), ("prompt", prompt)):
            if not isinstance(value, str):
                raise Refusal(422, f"{name} is {brief(value)}: send a text", param=f"session.{name}")
        stream = await self.open(rate, language or None, words_of([prompt]))
        self._stream, self._rate, self._language, self._prompt = stream, rate, language, prompt
        if "silence" in wanted:
            self._silence = wanted["silence"]

    def _described(self) -> dict[str, Any]:
        turns = None if self._silence is None else {"type": "server_vad", "silence_duration_ms": self._silence}
        heard = {"model": self.engine.name, "language": self._language, "prompt": self._prompt}
        audio = {
            "format": {"type": "audio/pcm", "rate": self._rate},
            "transcription": heard,
            "turn_detection": turns,
            "noise_reduction": None,
        }
        return {"type": "transcription", "object": "realtime.transcription_session", "audio": {"input": audio}}


def _event_in(frame: str | bytes) -> Mapping[str, Any]:
    """Raises ``Refusal`` for what is no event."""
    if isinstance(frame, bytes):
        raise Refusal(422, "a binary frame is no event: send JSON in text frames, audio within it as base64")
    try:
        event = json.loads(frame)
    except (ValueError, RecursionError) as error:
        raise Refusal(422, "the event is no JSON: send a JSON object", code="invalid_json") from error
    if not isinstance(event, dict):
        raise Refusal(422, f"the event is {brief(event)}: send a JSON object", code="invalid_json")
    return event


def _samples_of(audio: Any) -> np.ndarray:
    """(samples,) float32 of base64. Raises ``Refusal``."""
    if not isinstance(audio, str):
        raise Refusal(422, f"audio is {brief(audio)}: send samples (s16le) as base64", param="audio")
    try:
        data = base64.b64decode(audio, validate=True)
    except (binascii.Error, ValueError) as error:
        raise Refusal(422, "audio is no base64: encode the samples", param="audio") from error
    if len(data) % 2:
        raise Refusal(422, f"audio has {len(data)} bytes: a sample has two, send whole ones", param="audio")
    return np.frombuffer(data, "<i2").astype(np.float32) / np.float32(32768)


def _session_in(session: Any) -> dict[str, Any]:
    """What a session's description asks for: rate, model, language, prompt, silence in milliseconds or ``None``.

    Both shapes are read, the nested one and the flat one of ``transcription_session.update``. Raises ``Refusal``.
    """
    found: dict[str, Any] = {}
    session = _object("session", session)
    if session.get("type", "transcription") != "transcription":
        raise Refusal(
            422, f"session type {brief(session['type'])} is not served: use transcription", param="session.type"
        )
    given = _object("session.audio.input", _object("session.audio", session.get("audio") or {}).get("input") or {})
    form = given.get("format", session.get("input_audio_format"))
    if form is not None:
        form = {"type": form} if isinstance(form, str) else _object("session.audio.input.format", form)
        if form.get("type") not in ("audio/pcm", "pcm16"):
            raise Refusal(422, f"format {brief(form.get('type'))} is not served: use {listed(['audio/pcm'])}")
        found["rate"] = form.get("rate") or 24_000
    heard = given.get("transcription", session.get("input_audio_transcription")) or {}
    for name in ("model", "language", "prompt"):
        if name in _object("session.audio.input.transcription", heard):
            found[name] = heard[name]
    for holder in (given, session):
        if "turn_detection" in holder:
            found["silence"] = _silence_of(holder["turn_detection"])
            break
    return found


def _silence_of(turns: Any) -> int | None:
    if turns is None:
        return None
    turns = _object("turn_detection", turns)
    if turns.get("type", "server_vad") not in ("server_vad", "semantic_vad"):
        raise Refusal(422, f"turn_detection {brief(turns['type'])} is unknown: use server_vad or null")
    silence = turns.get("silence_duration_ms") or _SILENCE
    if isinstance(silence, bool) or not isinstance(silence, int) or not 0 < silence <= 60_000:
        raise Refusal(422, f"silence_duration_ms is {brief(silence)}: use a number from 1 to 60000")
    return silence


def _object(name: str, value: Any) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise Refusal(422, f"{name} is {brief(value)}: send an object", param=name)
    return value


def _new_id(kind: str) -> str:
    return f"{kind}_{uuid.uuid4().hex[:20]}"
