"""Answers whose bytes are not what they should be."""

from __future__ import annotations

import zlib
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aideon_testing.faults.streams import frames, gathered, is_stream, rewritten

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aideon_testing.connection import HttpRequest, HttpResponse, Parts
    from aideon_testing.interception import Proceed
    from aideon_testing.wire import Stamp

_DONE = b"data: [DONE]"
_PADDING = 65536
_GZIP = 16 + zlib.MAX_WBITS


@dataclass(frozen=True, slots=True)
class Malformed:
    """JSON that stops in the middle, though the answer goes on.

    Attributes:
        frame: which frame of a stream, counted from 0; a shorter stream has half of its last
            frame once more before ``[DONE]``. An answer that is no stream is half its body.
    """

    frame: int = 1

    async def intercept(self, request: HttpRequest, stamp: Stamp, proceed: Proceed) -> HttpResponse:
        """Answer as usual, with the bad JSON in it."""
        response = await proceed(request, stamp)
        return rewritten(response, self._halve_one if is_stream(response) else _halve_all)

    async def _halve_one(self, parts: Parts) -> Parts:
        number, before = 0, b""
        async with aclosing(frames(parts)) as all_frames:
            async for frame in all_frames:
                short = frame.startswith(_DONE) and number <= self.frame
                if short:
                    yield _halved(before)
                yield _halved(frame) if number == self.frame and not short else frame
                number, before = number + 1, frame


@dataclass(frozen=True, slots=True)
class DoneFrames:
    """Another number of ``[DONE]`` frames than one at the end of a stream.

    Attributes:
        count: how many.
    """

    count: int

    async def intercept(self, request: HttpRequest, stamp: Stamp, proceed: Proceed) -> HttpResponse:
        """Answer as usual, but for the end; an answer that is no stream stays as it is."""
        response = await proceed(request, stamp)
        return rewritten(response, self._end) if is_stream(response) else response

    async def _end(self, parts: Parts) -> Parts:
        async with aclosing(frames(parts)) as all_frames:
            async for frame in all_frames:
                if not frame.startswith(_DONE):
                    yield frame
        yield (_DONE + b"\n\n") * self.count


@dataclass(frozen=True, slots=True)
class LineEnds:
    r"""Lines that end in something else than a line feed.

    Attributes:
        end: what they end in; ``"\r"`` is a line end of server-sent events too.
    """

    end: str = "\r\n"

    async def intercept(self, request: HttpRequest, stamp: Stamp, proceed: Proceed) -> HttpResponse:
        """Answer as usual, with other line ends."""
        return rewritten(await proceed(request, stamp), self._replace)

    async def _replace(self, parts: Parts) -> Parts:
        async with aclosing(parts):
            async for part in parts:
                yield part.replace(b"\n", self.end.encode())


@dataclass(frozen=True, slots=True)
class Gzip:
    """A compressed body, whether the client asked for it or not."""

    async def intercept(self, request: HttpRequest, stamp: Stamp, proceed: Proceed) -> HttpResponse:
        """Answer as usual, compressed; a stream's frames still arrive one by one."""
        response = rewritten(await proceed(request, stamp), _compressed)
        return response.with_headers({"content-encoding": "gzip"})


@dataclass(frozen=True, slots=True)
class Oversized:
    """A body larger than a client may want to hold.

    Attributes:
        size: how many spaces stand before the content; a stream has them in a comment.
    """

    size: int

    async def intercept(self, request: HttpRequest, stamp: Stamp, proceed: Proceed) -> HttpResponse:
        """Answer as usual, after the padding."""
        response = await proceed(request, stamp)
        before, after = (b":", b"\n\n") if is_stream(response) else (b"", b"")

        async def padded(parts: Parts) -> Parts:
            async with aclosing(parts):
                yield before
                for start in range(0, self.size, _PADDING):
                    yield b" " * min(_PADDING, self.size - start)
                yield after
                async for part in parts:
                    yield part

        return rewritten(response, padded)


@dataclass(frozen=True, slots=True)
class Headers:
    """Other headers than the usual, such as a wrong content type.

    Attributes:
        changes: what to say instead; ``None`` takes a header away.
    """

    changes: Mapping[str, str | None]

    async def intercept(self, request: HttpRequest, stamp: Stamp, proceed: Proceed) -> HttpResponse:
        """Answer as usual, under these headers."""
        return (await proceed(request, stamp)).with_headers(self.changes)


async def _halve_all(parts: Parts) -> Parts:
    content = await gathered(parts)
    yield content[: len(content) // 2]


async def _compressed(parts: Parts) -> Parts:
    squeeze = zlib.compressobj(wbits=_GZIP)
    async with aclosing(parts):
        async for part in parts:
            yield squeeze.compress(part) + squeeze.flush(zlib.Z_SYNC_FLUSH)
    yield squeeze.flush()


def _halved(frame: bytes) -> bytes:
    return frame[: len(frame) // 2] + b"\n\n"
