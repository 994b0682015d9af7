"""Answers that end where they should not."""

from __future__ import annotations

import re
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, TypeAlias

from aideon_testing.connection import BrokenOff, ConnectionReset
from aideon_testing.faults.streams import gathered, on_wire

if TYPE_CHECKING:
    from aideon_testing.connection import HttpRequest, HttpResponse, Parts, Transform
    from aideon_testing.interception import Proceed
    from aideon_testing.wire import Stamp

Extent: TypeAlias = Literal["body", "response"]
"""What bytes are counted in: the body, or the response from its status line on."""

_CONTENT_LENGTH = re.compile(rb"(?i)\r\ncontent-length:[^\r]*")


def counted(response: HttpResponse, of: Extent, transform: Transform) -> HttpResponse:
    """The response with its body, or all of it, changed."""
    if of == "response":
        return on_wire(response, transform)
    return replace(response, body=transform(response.body))


@dataclass(frozen=True, slots=True)
class Cut:
    """The connection ends in the middle of the answer.

    Attributes:
        at: how many bytes are sent before; a shorter answer is cut at its end.
        of: whether ``at`` counts in the body or in the whole response: 0 of the response
            sends nothing at all, 20 of it ends within the headers.
        reset: whether the connection is reset instead of closed.
    """

    at: int = 0
    of: Extent = "body"
    reset: bool = False

    async def intercept(self, request: HttpRequest, stamp: Stamp, proceed: Proceed) -> HttpResponse:
        """Answer as usual, up to the cut."""
        return counted(await proceed(request, stamp), self.of, self._cut)

    async def _cut(self, parts: Parts) -> Parts:
        left = self.at
        async with aclosing(parts):
            async for part in parts:
                if len(part) >= left:
                    yield part[:left]
                    break
                yield part
                left -= len(part)
        raise ConnectionReset if self.reset else BrokenOff


@dataclass(frozen=True, slots=True)
class CutInside:
    """The connection ends within a character of the body, after its first byte.

    Attributes:
        text: the character, or any text whose first byte is the last one sent; an answer
            without it is left whole.
    """

    text: str

    async def intercept(self, request: HttpRequest, stamp: Stamp, proceed: Proceed) -> HttpResponse:
        """Answer as usual, up to the text."""
        return counted(await proceed(request, stamp), "body", self._cut)

    async def _cut(self, parts: Parts) -> Parts:
        wanted = self.text.encode()
        waiting = b""
        async with aclosing(parts):
            async for part in parts:
                waiting += part
                if (at := waiting.find(wanted)) >= 0:
                    yield waiting[: at + 1]
                    raise BrokenOff
                # The text may begin in this part and end in the next.
                sure = max(len(waiting) - len(wanted) + 1, 0)
                yield waiting[:sure]
                waiting = waiting[sure:]
        yield waiting


@dataclass(frozen=True, slots=True)
class ContentLength:
    """A content-length that is not the body's; the connection closes after the body.

    Attributes:
        off_by: what is added to the true length.
    """

    off_by: int

    async def intercept(self, request: HttpRequest, stamp: Stamp, proceed: Proceed) -> HttpResponse:
        """Answer as usual, under a wrong length; a stream is sent whole."""
        response = await proceed(request, stamp)
        content = await gathered(response.body)
        true = response.with_headers({"content-length": str(len(content))})
        claimed = b"\r\ncontent-length: %d" % max(len(content) + self.off_by, 0)

        async def claiming(parts: Parts) -> Parts:
            async with aclosing(parts):
                yield _CONTENT_LENGTH.sub(claimed, await anext(parts), count=1)
                async for part in parts:
                    yield part
            raise BrokenOff

        return on_wire(replace(true, body=_once(content)), claiming)


async def _once(content: bytes) -> Parts:
    yield content
