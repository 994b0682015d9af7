"""What a recording holds: a request, and the response that is served for it."""

from __future__ import annotations

import gzip
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from aideon_testing.connection import HttpResponse
from aideon_testing.replay.matching import read

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterable
    from pathlib import Path

    from aideon_testing.connection import HttpRequest

# How a body is sent is the sender's affair: these are written anew for every response.
_FRAMING: Final = {"content-encoding", "content-length", "transfer-encoding"}
_FRAME_END: Final = re.compile(rb"(?<=\n\n)|(?<=\r\n\r\n)")
_ENCODING: Final = re.compile(r"([\w*-]+)\s*(?:;\s*q\s*=\s*(\d(?:\.\d*)?))?")
# These have no body, and may not even say how long it is.
_WITHOUT_BODY: Final = {204, 304}


@dataclass(frozen=True, slots=True)
class RecordedResponse:
    """A response as it was recorded.

    Attributes:
        status: the HTTP status.
        headers: names in lower case with their values, in order, repeated ones included.
        raw: the body as it was recorded; still encoded where the recorder left it so.
        encoding: how ``raw`` is encoded, such as ``gzip``; empty when it is not.
    """

    status: int
    headers: tuple[tuple[str, str], ...]
    raw: bytes
    encoding: str = ""

    @property
    def content(self) -> bytes:
        """The body decoded; an encoding other than gzip stays as it is."""
        return gzip.decompress(self.raw) if self.encoding == "gzip" else self.raw

    def header(self, name: str) -> str:
        """The values of a header joined by commas, empty without one."""
        return ", ".join(value for key, value in self.headers if key == name.lower())

    def to(self, request: HttpRequest) -> HttpResponse:
        """The response to send: as recorded, in an encoding that the request accepts."""
        headers = [pair for pair in self.headers if pair[0] not in _FRAMING]
        content = self.raw
        if self.encoding == "gzip" and not _accepts_gzip(request.headers.get("accept-encoding")):
            content = self.content
        elif self.encoding:
            headers.append(("content-encoding", self.encoding))
        if self.header("content-type").lower().startswith("text/event-stream"):
            return HttpResponse(self.status, headers, _sent(_FRAME_END.split(content)))
        if self.status not in _WITHOUT_BODY:
            headers.append(("content-length", str(len(content))))
        return HttpResponse(self.status, headers, _sent([content]))


@dataclass(frozen=True, slots=True)
class Exchange:
    """A recorded request and its response.

    Attributes:
        source: the file it was read from.
        number: which exchange of that file it is, from 1.
        request: what was asked; its path is the recorded one, whatever the host was.
        response: what was answered.
    """

    source: Path
    number: int
    request: HttpRequest
    response: RecordedResponse

    @property
    def model(self) -> str | None:
        """The model that the request names, ``None`` when it names none."""
        _, value = read(self.request.content)
        model = value.get("model") if isinstance(value, dict) else None
        if isinstance(model, list) and model:
            model = model[0]  # a form may name a field more than once
        return model if isinstance(model, str) else None

    def __str__(self) -> str:
        return f"exchange {self.number} of {self.source}"


def _accepts_gzip(header: str | None) -> bool:
    # A client that sends no such header leaves the choice to the server (RFC 9110, 12.5.3).
    if header is None:
        return True
    qualities = dict(_ENCODING.findall(header.lower()))
    quality = qualities.get("gzip", qualities.get("*", "0"))
    return not quality or float(quality) > 0


async def _sent(parts: Iterable[bytes]) -> AsyncGenerator[bytes, None]:
    for part in parts:
        if part:
            yield part
