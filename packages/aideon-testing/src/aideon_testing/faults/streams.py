"""Changing bytes on their way out."""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aideon_testing.connection import HttpResponse, Parts, Transform

_FRAME_END = b"\n\n"


def rewritten(response: HttpResponse, transform: Transform) -> HttpResponse:
    """The response with another body; nobody knows its length yet, so it is sent chunked."""
    headers = {"content-length": None}
    return replace(response.with_headers(headers), body=transform(response.body))


def on_wire(response: HttpResponse, transform: Transform) -> HttpResponse:
    """The response with all of its bytes changed, those of its headers included."""
    before = response.wire
    return replace(response, wire=lambda parts: transform(before(parts)))


def is_stream(response: HttpResponse) -> bool:
    """Whether the body is a stream of server-sent events."""
    return (response.header("content-type") or "").startswith("text/event-stream")


async def frames(parts: Parts) -> Parts:
    """The frames of a stream one by one, whatever parts they came in."""
    waiting = bytearray()
    async with aclosing(parts):
        async for part in parts:
            unseen = max(len(waiting) - len(_FRAME_END) + 1, 0)
            waiting += part
            while (at := waiting.find(_FRAME_END, unseen)) >= 0:
                yield bytes(waiting[: at + len(_FRAME_END)])
                del waiting[: at + len(_FRAME_END)]
                unseen = 0
    if waiting:
        yield bytes(waiting)


async def gathered(parts: Parts) -> bytes:
    """All parts as one."""
    async with aclosing(parts):
        return b"".join([part async for part in parts])
