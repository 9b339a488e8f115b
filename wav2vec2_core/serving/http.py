"""HTTP in front of an engine: reads requests, asks, writes answers.

The paths and fields are those of OpenAI's API where it has some.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from wav2vec2_core.errors import InputError, Wav2Vec2Error, brief
from wav2vec2_core.serving import answers, invocations
from wav2vec2_core.serving.engine import Engine
from wav2vec2_core.serving.fields import Fields, check_model
from wav2vec2_core.serving.guard import Guard, Unread
from wav2vec2_core.serving.metrics import Metrics
from wav2vec2_core.serving.openapi import CAPTIONS, document, form_of
from wav2vec2_core.serving.page import page_routes
from wav2vec2_core.serving.realtime import websocket_routes
from wav2vec2_core.serving.refusals import Refusal, refusal_of
from wav2vec2_core.serving.rendering import rendered
from wav2vec2_core.serving.uploads import Form, Upload, chunks, form_upload, raw_upload
from wav2vec2_core.serving.waiting import Heard, TranscriptStream, result_for

#: Bytes of JSON that is read into memory.
_MOST_JSON = 64 << 20
_GRANULARITIES = ("word", "segment")
_TRANSCRIPTION = (
    "model", "language", "prompt", "keywords", "response_format", "temperature", "timestamp_granularities", "stream",
    "chunking_strategy",
)  # fmt: skip

logger = logging.getLogger("wav2vec2.serve")


def create_app(
    engine: Engine,
    folder: Path,
    *,
    metrics: Metrics | None = None,
    api_key: str | None = None,
    upload_mb: float = 512.0,
) -> Any:
    """The application, for any ASGI server.

    Args:
        engine: answers; stop it after the server.
        folder: for uploads above a megabyte; each is removed with its request.
        metrics: as the engine's ``watcher`` holds them.
        api_key: needed for all but ``/health`` and ``/ping``.
        upload_mb: megabytes of a request at most.
    """
    metrics = metrics or Metrics()
    metrics.of(engine)
    server = _Server(engine, folder, metrics, int(upload_mb * 1e6))
    operations = (
        ("POST", "/v1/audio/transcriptions", server.transcriptions, form_of("model", *_TRANSCRIPTION)),
        ("POST", "/v1/audio/alignments", server.alignments, form_of("text", "model", "language")),
        ("POST", "/v1/audio/classifications", server.classifications, form_of("model", "top_k")),
        ("POST", "/v1/audio/embeddings", server.embeddings, form_of("model", "layers", "response_format")),
        ("POST", "/v1/audio/captions", server.captions, CAPTIONS),
        ("GET", "/v1/models", server.models, {}),
        ("GET", "/v1/models/{name:path}", server.model, {}),
        ("GET", "/health", server.health, {}),
        ("GET", "/metrics", server.figures, {}),
        ("GET", "/ping", server.ping, {}),
        ("POST", "/invocations", server.invocations, {}),
    )
    described = document(operations)

    async def openapi(request: Request) -> Response:
        return JSONResponse(described)

    own = [Route(path, _counted(path, handler), methods=[method]) for method, path, handler, _ in operations]
    routes = [*own, Route("/openapi.json", openapi), *page_routes(), *websocket_routes(engine)]
    app = Starlette(routes=routes, exception_handlers=_error_handlers())
    return Guard(app, api_key=api_key, metrics=metrics)


def _counted(path: str, handler: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
    """A handler that leaves its path, as it is written above, for the metrics."""

    async def handle(request: Request) -> Response:
        request.scope["counted_as"] = path
        return await handler(request)

    return handle


class _Server:
    """The handlers."""

    def __init__(self, engine: Engine, folder: Path, metrics: Metrics, most: int) -> None:
        self.engine, self.folder, self.metrics, self.most = engine, folder, metrics, most
        self.created = int(time.time())

    async def transcriptions(self, request: Request) -> Response:
        """Transcribe a recording. Words of prompt and keywords are preferred; temperature changes nothing."""
        async with AsyncExitStack() as held:
            place = held.enter_context(self.engine.place())
            form = await held.enter_async_context(form_upload(request, self.most, self.folder))
            fields = self._fields(form, _TRANSCRIPTION)
            response_format = fields.choice("response_format", answers.FORMATS, "json")
            granularities = _granularities(fields, response_format)
            fields.number("temperature", 0, 2, 0)
            fields.choice("chunking_strategy", ("auto",), "auto")
            is_stream = fields.flag("stream")
            if is_stream and response_format not in ("json", "text", "verbose_json"):
                message = f"is {response_format}: a stream is json, text or verbose_json"
                raise fields.wrong("response_format", message)
            language = await self._language(fields)
            recording = self._file(form).recording()
            if is_stream:
                heard = Heard()
                future = place.transcribe(recording, language=language, hotwords=fields.hotwords, heard=heard)
                done = partial(answers.done, response_format=response_format, granularities=granularities)
                return TranscriptStream(heard, future, held.pop_all(), done)
            future = place.transcribe(recording, language=language, hotwords=fields.hotwords)
            transcript = await result_for(request, future)
        body = answers.transcription(transcript, response_format, granularities)
        if isinstance(body, str):
            return Response(body, media_type=answers.FORMATS[response_format])
        return JSONResponse(body)

    async def alignments(self, request: Request) -> Response:
        """Find when the words and characters of a text are spoken."""
        with self.engine.place() as place:
            async with form_upload(request, self.most, self.folder) as form:
                fields = self._fields(form, ("text", "model", "language"))
                text = fields.text("text")
                if text is None:
                    raise Refusal(422, "field text is missing: send what is said", code="missing_field", param="text")
                language = await self._language(fields)
                future = place.align(self._file(form).recording(), text, language=language)
                return JSONResponse(answers.alignment(await result_for(request, future)))

    async def classifications(self, request: Request) -> Response:
        """The labels of a recording, its stretches, or the vector of its speaker, whichever the model has."""
        with self.engine.place() as place:
            async with form_upload(request, self.most, self.folder) as form:
                fields = self._fields(form, ("model", "top_k"))
                top = _whole(fields, "top_k", 1, 100_000)
                found = await result_for(request, place.classify(self._file(form).recording(), top))
                return JSONResponse({**answers.classification(found), "model": self.engine.name})

    async def embeddings(self, request: Request) -> Response:
        """Hidden states: their mean over time as JSON, or all of them as a file of numpy (npz)."""
        async with AsyncExitStack() as held:
            place = held.enter_context(self.engine.place())
            form = await held.enter_async_context(form_upload(request, self.most, self.folder))
            fields = self._fields(form, ("model", "layers", "response_format"))
            layers = _layers(fields)
            recording = self._file(form).recording()
            if fields.choice("response_format", ("json", "npz"), "json") == "json":
                found = await result_for(request, place.embed(recording, layers))
                return JSONResponse(answers.embeddings(found, self.engine.name))
            target = self.folder / f"embeddings-{id(place)}.npz"
            future = place.write_embeddings(recording, target, layers)
            try:
                await result_for(request, future)
            except BaseException:  # the file may still be written: it goes when it is
                future.add_done_callback(lambda _: target.unlink(missing_ok=True))
                raise
            return _OwnFile(target, filename="embeddings.npz")

    async def captions(self, request: Request) -> Response:
        """A caption or label file of words and segments that this server answered, or their corrected form."""
        with self.engine.place():
            text = await asyncio.to_thread(rendered, await self._json(request))
            return Response(text, media_type="text/plain; charset=utf-8")

    async def models(self, request: Request) -> Response:
        """The one model that is served."""
        return JSONResponse({"object": "list", "data": [self._model()]})

    async def model(self, request: Request) -> Response:
        """The model of this name."""
        check_model(request.path_params["name"], self.engine)
        return JSONResponse(self._model())

    async def health(self, request: Request) -> Response:
        """Whether requests are answered."""
        return JSONResponse({"status": "ok", "model": self.engine.name, "waiting": self.engine.waiting})

    async def figures(self, request: Request) -> Response:
        """Figures for Prometheus."""
        return Response(self.metrics.page(), media_type="text/plain; version=0.0.4; charset=utf-8")

    async def ping(self, request: Request) -> Response:
        """SageMaker's question for health."""
        return PlainTextResponse("")

    async def invocations(self, request: Request) -> Response:
        """SageMaker's call: a recording as it is, or JSON with base64 in it."""
        with self.engine.place() as place:
            kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
            async with AsyncExitStack() as held:
                if kind == "application/json":
                    upload = Upload(self.folder)
                    held.callback(upload.close)
                    data, parameters = invocations.read_call(await self._json(request))
                    await asyncio.to_thread(upload.write, data)
                else:
                    upload = await held.enter_async_context(raw_upload(request, self.most, self.folder))
                    parameters = {}
                begun = await asyncio.to_thread(invocations.begin, self.engine, place, upload.recording(), parameters)
                answer = begun[1](await result_for(request, begun[0]))
        if isinstance(answer, dict) and request.headers.get("accept", "").startswith("text/plain"):
            return PlainTextResponse(answer["text"])
        return JSONResponse(answer)

    # ---- inside -------------------------------------------------------------------------------------------------

    def _fields(self, form: Form, known: Sequence[str]) -> Fields:
        fields = Fields(form.fields, known)
        fields.check_model(self.engine)
        return fields

    def _file(self, form: Form) -> Upload:
        if form.file is None:
            raise Refusal(422, "field file is missing: send a recording in it", code="missing_field", param="file")
        return form.file

    async def _language(self, fields: Fields) -> str | None:
        """The model's own code. Raises ``Refusal``; a new language may have to be looked for on the hub."""
        code = fields.text("language")
        if code is None:
            return self.engine.language
        try:
            return await asyncio.to_thread(self.engine.check_language, code)
        except InputError as error:
            raise Refusal(422, str(error), code="unknown_language", param="language") from error

    async def _json(self, request: Request) -> Any:
        content = bytearray()
        async for chunk in chunks(request, min(self.most, _MOST_JSON)):
            content += chunk
        try:
            return await asyncio.to_thread(json.loads, content)
        except (ValueError, RecursionError) as error:
            raise Refusal(422, "the body is no JSON: send a JSON object", code="invalid_json") from error

    def _model(self) -> dict[str, Any]:
        """As OpenAI describes one, with what its head is for and the languages of MMS."""
        return {
            "id": self.engine.name,
            "object": "model",
            "created": self.created,
            "owned_by": "wav2vec2",
            "head": self.engine.head,
            "language": self.engine.language,
            "languages": self.engine.languages,
        }


class _OwnFile(FileResponse):
    """A file that is removed once it is sent, or cannot be."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            Path(self.path).unlink(missing_ok=True)


def _granularities(fields: Fields, response_format: str) -> tuple[str, ...]:
    wanted = fields.several("timestamp_granularities")
    for one in wanted:
        if one not in _GRANULARITIES:
            raise fields.wrong("timestamp_granularities", f"holds {brief(one)}: use word and segment")
    if wanted and response_format != "verbose_json":
        raise fields.wrong("timestamp_granularities", "needs response_format verbose_json: ask for it")
    return tuple(wanted) or ("segment",)


def _layers(fields: Fields) -> list[int]:
    parts = [part for given in fields.several("layers") or ["-1"] for part in given.split(",")]
    try:
        return [int(part) for part in parts]
    except ValueError as error:
        raise fields.wrong("layers", f"holds {brief(','.join(parts))}: write numbers as 0,6,-1") from error


def _whole(fields: Fields, name: str, low: int, high: int) -> int | None:
    if fields.text(name) is None:
        return None
    number = fields.number(name, low, high, low)
    if number != int(number):
        raise fields.wrong(name, f"is {number:g}: use a whole number")
    return int(number)


# ---- errors ---------------------------------------------------------------------------------------------------------


def _error_handlers() -> Mapping[Any, Any]:
    """All errors have one shape."""

    async def refuse(request: Request, error: Exception) -> Response:
        refusal = refusal_of(error)
        if refusal.status >= 500 and not isinstance(error, Refusal | Unread):
            logger.error("%s %s: %s: %s", request.method, request.url.path, type(error).__name__, error)
        return JSONResponse(refusal.body, refusal.status, refusal.headers)

    async def refuse_route(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        message = {404: "there is no such address here", 405: "this address takes another method"}
        refusal = Refusal(error.status_code, message.get(error.status_code, str(error.detail)), code="invalid_address")
        return JSONResponse(refusal.body, error.status_code, error.headers)

    async def leave(request: Request, error: Exception) -> Response:
        return Response(status_code=499)  # nobody reads it

    handlers: dict[Any, Any] = dict.fromkeys((Refusal, Wav2Vec2Error, OSError, Exception), refuse)
    return {**handlers, HTTPException: refuse_route, ClientDisconnect: leave}
