"""What clients send: forms with a recording, and recordings as they are.

Up to a megabyte stays in memory; more goes to a file that nobody else can read, in a folder that is removed when the
server ends. Nothing of a file's name is used as a path.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, QuerystringParser, parse_options_header
from starlette.requests import Request

from wav2vec2_core.audio import Recording
from wav2vec2_core.serving.refusals import Refusal

#: Bytes of a recording that stay in memory.
IN_MEMORY = 1 << 20
#: Bytes of a field that is no file, such as a text to be aligned, and of a part's headers; fields of a form.
_LONGEST_FIELD, _LONGEST_HEADER, _MOST_FIELDS = 1 << 20, 1 << 14, 100
#: A body may take this many seconds, and one more for every so many bytes.
_PATIENCE, _SLOWEST = 30.0, 2000.0
#: Fields that hold recordings.
_FILES = ("file",)


class Upload:
    """A recording as it was sent. ``name``: for messages."""

    def __init__(self, folder: Path, name: str = "") -> None:
        self.name = clean_name(name)
        self._folder = folder
        self._held = bytearray()
        self._file: Any = None
        self._path: Path | None = None

    @property
    def on_disk(self) -> Path | None:
        """The file, where it is in one."""
        return self._path

    def write(self, data: bytes) -> None:
        """The next bytes. Raises ``OSError`` where the disk is full."""
        if self._file is None and len(self._held) + len(data) > IN_MEMORY:
            descriptor, path = tempfile.mkstemp(prefix="upload-", dir=self._folder)
            self._file, self._path = os.fdopen(descriptor, "wb"), Path(path)
            self._file.write(self._held)
            self._held = bytearray()
        if self._file is None:
            self._held += data
        else:
            self._file.write(data)

    def recording(self, **options: Any) -> Recording:
        """What was sent, once all of it is here; arguments and errors as of ``Recording.open``."""
        if self._path is None:
            return Recording.from_bytes(bytes(self._held), name=self.name, **options)
        self._file.flush()
        return Recording.open(self._path, name=self.name, **options)

    def close(self) -> None:
        """Remove the file."""
        if self._file is not None:
            with suppress(OSError):
                self._file.close()
        if self._path is not None:
            self._path.unlink(missing_ok=True)


@dataclass
class Form:
    """The fields of a form, each with all its values in their order, and the recording, if there is one."""

    fields: dict[str, list[str]] = field(default_factory=dict)
    file: Upload | None = None


def clean_name(name: str) -> str:
    """A file's name for messages: its last part, on one line, 100 characters at most."""
    last = name.replace("\\", "/").rpartition("/")[2]
    return "".join(letter if letter.isprintable() else "?" for letter in last)[:100].strip() or "the recording"


async def chunks(request: Request, most: int) -> AsyncGenerator[bytes]:
    """The body of a request as it comes.

    Raises:
        Refusal: it is longer than ``most`` bytes, or comes too slowly.
    """
    too_large = Refusal(
        413,
        f"the request has more than {most} bytes, the limit of this server: compress the recording, as flac or opus",
        code="request_too_large",
        headers={"connection": "close"},
    )
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > most:
        raise too_large
    received, started = 0, time.monotonic()
    stream = request.stream()
    while True:
        left = started + _PATIENCE + received / _SLOWEST - time.monotonic()
        try:
            chunk = await asyncio.wait_for(anext(stream), max(0.0, left))
        except StopAsyncIteration:
            return
        except TimeoutError:
            raise Refusal(
                408, "the request came too slowly: send it again", code="timeout", headers={"connection": "close"}
            ) from None
        received += len(chunk)
        if received > most:
            raise too_large
        if chunk:
            yield chunk


@asynccontextmanager
async def raw_upload(request: Request, most: int, folder: Path) -> AsyncIterator[Upload]:
    """The body as a recording; it is removed at the end of the context. Raises as ``chunks``, and ``OSError``."""
    upload = Upload(folder)
    try:
        async for chunk in chunks(request, most):
            upload.write(chunk)
        yield upload
    finally:
        upload.close()


@asynccontextmanager
async def form_upload(request: Request, most: int, folder: Path) -> AsyncIterator[Form]:
    """A form, multipart or not; its recording is removed at the end of the context.

    Raises:
        Refusal: it is no form, damaged or too long.
        OSError: the disk is full.
    """
    kind, options = parse_options_header(request.headers.get("content-type"))
    reader = _FormReader(folder)
    try:
        if kind == b"multipart/form-data" and options.get(b"boundary"):
            parser: Any = MultipartParser(options[b"boundary"], reader.callbacks)
        elif kind == b"application/x-www-form-urlencoded":
            parser = QuerystringParser(reader.query_callbacks)
        else:
            raise Refusal(
                422,
                "the request is no form: send multipart/form-data, with the recording in the field file",
                code="invalid_form",
            )
        try:
            async for chunk in chunks(request, most):
                parser.write(chunk)
            parser.finalize()
        except FormParserError as error:
            reason = " ".join(str(error).split())[:100]
            raise Refusal(422, f"the form is damaged ({reason}): send it again", code="invalid_form") from error
        if kind == b"multipart/form-data" and not reader.is_complete:
            raise Refusal(422, "the form ends before its last boundary: send it again", code="invalid_form")
        yield reader.form
    finally:
        if reader.form.file is not None:
            reader.form.file.close()


class _FormReader:
    """Takes what the parser finds."""

    def __init__(self, folder: Path) -> None:
        self.form, self.is_complete = Form(), False
        self._folder = folder
        self._header, self._value = bytearray(), bytearray()
        self._name, self._data = "", bytearray()
        self._file: Upload | None = None
        self._count = 0

    @property
    def callbacks(self) -> Any:
        """For a multipart form."""
        return {
            "on_part_begin": self._begin,
            "on_header_field": lambda data, start, end: self._grow(self._header, data[start:end], _LONGEST_HEADER),
            "on_header_value": lambda data, start, end: self._grow(self._value, data[start:end], _LONGEST_HEADER),
            "on_header_end": self._end_header,
            "on_headers_finished": self._end_headers,
            "on_part_data": self._take,
            "on_part_end": self._end,
            "on_end": self._complete,
        }

    @property
    def query_callbacks(self) -> Any:
        """For a form as in the query of an address."""
        from urllib.parse import unquote_to_bytes

        def end() -> None:
            self._name = unquote_to_bytes(bytes(self._header).replace(b"+", b" ")).decode("utf-8", "replace")
            self._data = bytearray(unquote_to_bytes(bytes(self._data).replace(b"+", b" ")))
            self._end()

        return {
            "on_field_start": self._begin,
            "on_field_name": lambda data, start, end: self._grow(self._header, data[start:end], _LONGEST_HEADER),
            "on_field_data": lambda data, start, end: self._grow(self._data, data[start:end], 3 * _LONGEST_FIELD),
            "on_field_end": end,
        }

    def _begin(self) -> None:
        self._count += 1
        if self._count > _MOST_FIELDS:
            raise Refusal(422, f"the form has more than {_MOST_FIELDS} fields: leave some out", code="invalid_form")
        self._name, self._file, self._data = "", None, bytearray()
        self._header, self._value = bytearray(), bytearray()

    def _grow(self, held: bytearray, data: bytes, most: int) -> None:
        if len(held) + len(data) > most:
            raise Refusal(422, f"a field of the form has more than {most} bytes: shorten it", code="invalid_form")
        held += data

    def _end_header(self) -> None:
        if bytes(self._header).lower() == b"content-disposition":
            _, options = parse_options_header(bytes(self._value))
            self._name = options.get(b"name", b"").decode("utf-8", "replace")
            if b"filename" in options or self._name in _FILES:
                if self._name not in _FILES or self.form.file is not None:
                    raise Refusal(
                        422,
                        f"field {clean_name(self._name)!r} is a file: send one file, in the field file",
                        code="invalid_form",
                        param=clean_name(self._name),
                    )
                self._file = self.form.file = Upload(
                    self._folder, options.get(b"filename", b"").decode("utf-8", "replace")
                )
        self._header, self._value = bytearray(), bytearray()

    def _end_headers(self) -> None:
        if not self._name:
            raise Refusal(422, "a field of the form has no name: name each one", code="invalid_form")

    def _take(self, data: bytes, start: int, end: int) -> None:
        if self._file is not None:
            self._file.write(data[start:end])
        else:
            self._grow(self._data, data[start:end], _LONGEST_FIELD)

    def _end(self) -> None:
        if self._file is None:
            try:
                value = bytes(self._data).decode("utf-8")
            except UnicodeDecodeError as error:
                raise Refusal(
                    422, f"field {clean_name(self._name)!r} is not UTF-8: send it as UTF-8", code="invalid_form"
                ) from error
            self.form.fields.setdefault(self._name, []).append(value)

    def _complete(self) -> None:
        self.is_complete = True
