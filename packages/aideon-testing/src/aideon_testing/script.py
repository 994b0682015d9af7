"""Answers written down beforehand."""

from __future__ import annotations

import asyncio
import json
import re
from collections import deque
from contextlib import aclosing
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING

from aideon_core.types import Chunk, FinishReason, ToolCall, ToolCallDelta, Usage
from aideon_testing.faults import BrokenOff, Failure

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator

    from aideon_core.types import Json
    from aideon_testing.answers import Answerer

_PIECE = re.compile(r"\s*(?:\w+|[^\w\s])|\s+")


def pieces(text: str) -> list[str]:
    """Cut text into the server's tokens: a word or a mark, with the space before it.

    The pieces joined are the text again, character for character.
    """
    return _PIECE.findall(text)


@dataclass(frozen=True, slots=True)
class Reply:
    """One scripted answer.

    A request's ``stop`` and ``max_tokens`` apply to it as they would to a model's answer,
    counted in words and marks.

    Attributes:
        text: the answer.
        reasoning: the model's thoughts; they come before the text and count as output.
        tool_calls: the functions to call; a call without an id is given one.
        finish_reason: by default "tool_calls" when there are any, else "stop".
        usage: by default counted from request and answer, the same every time.
        cut_after: close the connection after that many stream frames, the opener included;
            an answer that is not streamed breaks off in the middle of its body.
        delay: seconds to wait before anything is sent.
    """

    text: str = ""
    reasoning: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    finish_reason: FinishReason | None = None
    usage: Usage | None = None
    cut_after: int | None = None
    delay: float = 0.0


class Script:
    """A queue of answers, given in order; safe to fill while the server runs.

    Args:
        otherwise: who answers when the queue is empty. By default the server repeats the
            last message, and says so.
    """

    def __init__(self, *, otherwise: Answerer | None = None) -> None:
        self._queue: deque[Reply | Failure] = deque()
        self._otherwise = otherwise

    def __len__(self) -> int:
        """How many answers are still to be given."""
        return len(self._queue)

    def say(self, *texts: str) -> None:
        """Queue plain text answers."""
        self._queue.extend(Reply(text) for text in texts)

    def call(self, name: str, /, **arguments: object) -> None:
        """Queue an answer that calls one tool."""
        call = ToolCall(id="", name=name, arguments=json.dumps(arguments))
        self._queue.append(Reply(tool_calls=(call,)))

    def reply(self, *replies: Reply) -> None:
        """Queue answers."""
        self._queue.extend(replies)

    def fail(self, *failures: Failure) -> None:
        """Queue failures."""
        self._queue.extend(failures)

    async def answer(self, body: Json) -> AsyncGenerator[Chunk, None]:
        """Give the next answer of the queue; see Answerer."""
        planned = self._queue.popleft() if self._queue else None
        if planned is None and self._otherwise is not None:
            async with aclosing(self._otherwise.answer(body)) as chunks:
                async for chunk in chunks:
                    yield chunk
            return
        if isinstance(planned, Failure):
            raise planned
        reply = planned or Reply(f"The loopback server heard: {_last_text(body)}")
        await asyncio.sleep(reply.delay)
        for chunk in _cut(reply, list(_chunks(reply, body)), streamed=bool(body.get("stream"))):
            yield chunk


def _cut(reply: Reply, chunks: list[Chunk], *, streamed: bool) -> Iterator[Chunk]:
    """Pass the chunks on until the reply's connection is to break; each becomes one frame."""
    # A whole answer has no frames to count, so it breaks off once it is complete.
    cut_after = reply.cut_after if streamed or reply.cut_after is None else len(chunks)
    for sent, chunk in enumerate(chunks):
        if sent == cut_after:
            raise BrokenOff
        yield chunk
    if cut_after == len(chunks):
        raise BrokenOff


def _chunks(reply: Reply, body: Json) -> Iterator[Chunk]:
    thoughts, words, calls, finish_reason = _shortened(reply, body)
    yield Chunk()
    yield from (Chunk(reasoning=piece) for piece in thoughts)
    yield from (Chunk(text=piece) for piece in words)
    spoken = len(thoughts) + len(words)
    for index, call in enumerate(calls):
        arguments = pieces(call.arguments)
        spoken += 1 + len(arguments)
        opener = ToolCallDelta(index, call.id or _call_id(body, index, call), call.name)
        yield Chunk(tool_calls=(opener,))
        for piece in arguments:
            yield Chunk(tool_calls=(ToolCallDelta(index, arguments=piece),))
    yield Chunk(finish_reason=finish_reason)
    counted = Usage(_prompt_tokens(body), spoken, reasoning_tokens=len(thoughts))
    yield Chunk(usage=reply.usage or counted)


def _shortened(
    reply: Reply, body: Json
) -> tuple[list[str], list[str], tuple[ToolCall, ...], FinishReason]:
    """The reply as far as the request's ``stop`` and ``max_tokens`` let it come."""
    cuts = [at for stop in _stops(body) if stop and (at := reply.text.find(stop)) >= 0]
    thoughts = pieces(reply.reasoning or "")
    words = pieces(reply.text[: min(cuts)] if cuts else reply.text)
    limit = body.get("max_tokens") or body.get("max_completion_tokens")
    if isinstance(limit, int) and len(thoughts) + len(words) > limit:
        return thoughts[:limit], words[: max(limit - len(thoughts), 0)], (), "length"
    if cuts:
        return thoughts, words, (), "stop"
    usual: FinishReason = "tool_calls" if reply.tool_calls else "stop"
    return thoughts, words, reply.tool_calls, reply.finish_reason or usual


def _stops(body: Json) -> list[str]:
    stop = body.get("stop") or []
    return [stop] if isinstance(stop, str) else list(stop)


def _texts(body: Json) -> Iterator[str]:
    for message in body["messages"]:
        content = message.get("content") or ""
        if isinstance(content, str):
            yield content
        else:
            yield "".join(part.get("text") or "" for part in content)


def _last_text(body: Json) -> str:
    return list(_texts(body))[-1]


def _prompt_tokens(body: Json) -> int:
    return sum(len(pieces(text)) for text in _texts(body))


def _call_id(body: Json, index: int, call: ToolCall) -> str:
    # The conversation is part of the id: an agent that repeats a call gets a new one.
    seed = f"{len(body['messages'])} {index} {call.name} {call.arguments}"
    return f"call_{sha256(seed.encode()).hexdigest()[:24]}"
