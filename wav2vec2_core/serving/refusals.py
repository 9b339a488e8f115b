"""What a client is told where something is wrong: a status and one line, in the shape that OpenAI's clients read."""

from __future__ import annotations

from typing import Any

from wav2vec2_core.errors import AudioError, InputError, OutputError, Wav2Vec2Error
from wav2vec2_core.serving.engine import Busy, Stopping, TooLongError


class Refusal(Exception):  # noqa: N818 (an answer)
    """A request is not carried out. status: of HTTP; message: one line; code: for programs; param: the field."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.code, self.param, self.headers = status, code, param, headers or {}

    @property
    def body(self) -> dict[str, Any]:
        """The content of the answer."""
        kinds = {401: "authentication_error", 429: "rate_limit_error"}
        kind = kinds.get(self.status, "server_error" if self.status >= 500 else "invalid_request_error")
        return {"error": {"message": str(self), "type": kind, "param": self.param, "code": self.code}}


def refusal_of(error: Exception) -> Refusal:
    """What a client is told of an exception."""
    message = str(error).partition("\n")[0]
    match error:
        case Refusal():
            return error
        case Busy():
            wait = {"retry-after": str(error.retry_after)}
            return Refusal(429, message, code="rate_limit_exceeded", headers=wait)
        case Stopping():
            return Refusal(503, message, code="stopping", headers={"retry-after": "5"})
        case TooLongError():
            return Refusal(413, message, code="audio_too_long", param="file")
        case AudioError():
            message = message.replace(", or keep what can be read (--on-damage keep)", "")  # the command's own remedy
            return Refusal(422, message, code="invalid_audio", param="file")
        case InputError():
            return Refusal(422, message, code="invalid_value")
        case OutputError():
            return _unstored()
        case Wav2Vec2Error():
            return Refusal(500, message, code="model_error")
        case OSError():
            return _unstored()
    return Refusal(500, "the server failed, which is a mistake of its own: its log says more", code="internal_error")


def _unstored() -> Refusal:
    return Refusal(507, "the server cannot store this: its disk is full or not writable", code="storage")
