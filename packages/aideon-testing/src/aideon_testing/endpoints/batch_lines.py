"""The lines of a batch: what one asks, and what comes of it."""

from __future__ import annotations

import json
import logging
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from aideon_testing.connection import HttpRequest
from aideon_testing.faults import BrokenOff, Failure

if TYPE_CHECKING:
    from collections.abc import Awaitable, Iterator, Mapping

    from aideon_core.types import Json
    from aideon_testing.connection import HttpResponse

CHAT: Final = "/v1/chat/completions"
ENDPOINTS: Final = (CHAT, "/v1/audio/transcriptions", "/v1/audio/translations")
"""What a batch may ask."""

_MAX_LINES: Final = 50_000
_MAX_BYTES: Final = 100 * 2**20
_MAX_CUSTOM_ID: Final = 64
_BOUNDARY: Final = "----batch-line-4c1f0f2be7a94c0d"

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Line:
    """One request of a batch.

    Attributes:
        custom_id: what the client calls it.
        body: what it asks.
    """

    custom_id: str
    body: Json

    def request(self, endpoint: str, model: str | None, headers: Mapping[str, str]) -> HttpRequest:
        """The request as a client would send it by itself.

        Args:
            endpoint: one of ENDPOINTS.
            model: for a body that names none.
            headers: to send with it.
        """
        body = self.body if model is None else {"model": model, **self.body}
        if endpoint == CHAT:
            # A line of a file has no use for a stream.
            whole = {name: value for name, value in body.items() if name != "stream"}
            content, content_type = json.dumps(whole).encode(), "application/json"
        else:
            content = _form(body)
            content_type = f"multipart/form-data; boundary={_BOUNDARY}"
        return HttpRequest("POST", endpoint, "", {**headers, "content-type": content_type}, content)


def read(content: bytes) -> list[Line]:
    """The lines of an input file; empty ones do not count.

    Raises:
        ValueError: a line, or the file, is not what a batch takes.
    """
    if len(content) > _MAX_BYTES:
        raise ValueError(f"The input file is {len(content)} bytes; the limit is {_MAX_BYTES}.")
    rows = [(number, row) for number, row in enumerate(content.split(b"\n"), 1) if row.strip()]
    if not rows:
        raise ValueError("The input file has no requests.")
    if len(rows) > _MAX_LINES:
        raise ValueError(f"The input file has {len(rows)} requests; the limit is {_MAX_LINES}.")
    seen: dict[str, int] = {}
    lines = []
    for number, row in rows:
        line = _line(number, row)
        if (first := seen.setdefault(line.custom_id, number)) != number:
            raise ValueError(f"Line {number} repeats the custom_id of line {first}.")
        lines.append(line)
    return lines


async def outcome(custom_id: str, response: Awaitable[HttpResponse]) -> Json:
    """What a batch writes for a line: its ``response``, or its ``error``.

    Args:
        custom_id: the line's.
        response: what it is answered with, or how it fails.
    """
    try:
        answer = await response
        async with aclosing(answer.body) as parts:
            body = json.loads(b"".join([part async for part in parts]))
    except Failure as failure:
        return {"custom_id": custom_id, "error": _error(failure)}
    except BrokenOff:
        error = {"message": "The engine broke off in its answer.", "code": "server_error"}
        return {"custom_id": custom_id, "error": error}
    except Exception:
        # An answerer is anybody's code; its bug costs one line and not the batch.
        _logger.exception("The answerer failed on line %r of a batch", custom_id)
        return {"custom_id": custom_id, "error": _error(Failure.server_error())}
    return {"custom_id": custom_id, "response": {"status_code": answer.status, "body": body}}


def _line(number: int, row: bytes) -> Line:
    try:
        value = json.loads(row)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"Line {number} is no JSON: {error}") from error
    if not isinstance(value, dict):
        raise ValueError(f"Line {number} is no JSON object.")  # noqa: TRY004 - one kind of error
    custom_id, body = value.get("custom_id"), value.get("body")
    if not isinstance(custom_id, str) or not 1 <= len(custom_id) <= _MAX_CUSTOM_ID:
        raise ValueError(f"Line {number} needs a custom_id of 1 to {_MAX_CUSTOM_ID} characters.")
    if not isinstance(body, dict):
        raise ValueError(f"Line {number} needs a body that is an object.")  # noqa: TRY004 - as above
    return Line(custom_id, body)


def _error(failure: Failure) -> Json:
    if isinstance(failure.body, str):
        return {"message": failure.body, "code": str(failure.status)}
    error = failure.body.get("error")
    if not isinstance(error, dict):
        return {"message": str(error), "code": str(failure.status)}
    if error.get("code") == "model_not_available":
        return {"message": "Invalid model specified", "code": "invalid_model"}
    code = error.get("code") or error.get("type") or str(failure.status)
    return {"message": error.get("message"), "code": code}


def _form(body: Json) -> bytes:
    """The body as the form that the audio endpoints take; its file is a URL."""
    lines = [
        f'--{_BOUNDARY}\r\ncontent-disposition: form-data; name="{name}"\r\n\r\n{text}\r\n'
        for name, text in _texts(body)
    ]
    return "".join([*lines, f"--{_BOUNDARY}--\r\n"]).encode()


def _texts(body: Json) -> Iterator[tuple[str, str]]:
    for name, value in body.items():
        if isinstance(value, list):
            yield from ((f"{name}[]", _text(item)) for item in value)
        else:
            yield name, _text(value)


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)
