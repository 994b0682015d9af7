"""Answers written down beforehand."""

from __future__ import annotations

import asyncio
import itertools
import json
import re
from collections import deque
from contextlib import aclosing
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import TYPE_CHECKING

from aideon_core.types import Chunk, FinishReason, TokenLogprob, ToolCall, ToolCallDelta, Usage
from aideon_testing.answers import logprobs_asked, most_tokens, prompt_texts
from aideon_testing.faults import BrokenOff, Failure

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterable, Iterator
    from types import UnionType

    from aideon_core.types import Json
    from aideon_testing.answers import Answerer

_PIECE = re.compile(r"\s*(?:\w+|[^\w\s])|\s+")

_END = "</s>"
_FAILURES = "give a failure made by calling, such as Failure.rate_limited()"


def pieces(text: str) -> list[str]:
    """Cut text into the server's tokens: a word or a mark, with the space before it.

    The pieces joined are the text again, character for character.
    """
    return _PIECE.findall(text)


@dataclass(frozen=True, slots=True)
class Reply:
    """One scripted answer.

    A request's ``stop``, ``max_tokens`` and ``logprobs`` apply to it as they would to a
    model's answer, counted in words and marks.

    Attributes:
        text: the answer.
        reasoning: the model's thoughts; they come before the text and count as output.
        tool_calls: the functions to call; a call without an id is given one that no other
            call of the script has.
        finish_reason: by default "tool_calls" when there are any, else "stop".
        usage: by default counted from request and answer, the same every time.
        logprobs: the tokens of the text with their logprobs, sent when the request asks for
            any; by default made from the words, the same every time.
        warnings: what the API says about parameters it did not follow.
        failure: breaks the answer off after its last word; a whole answer becomes this
            failure, a stream ends with a frame that says ``error``.
        cut_after: close the connection after that many stream frames, the opener included,
            as today's engines count them; an answer that is not streamed breaks off in the
            middle of its body.
        delay: seconds to wait before anything is sent.

    Raises:
        TypeError: a text, a call or the failure is something else.
        ValueError: the tokens of ``logprobs`` do not join to ``text``.
    """

    text: str = ""
    reasoning: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    finish_reason: FinishReason | None = None
    usage: Usage | None = None
    logprobs: tuple[TokenLogprob, ...] = ()
    warnings: tuple[str, ...] = ()
    failure: Failure | None = None
    cut_after: int | None = None
    delay: float = 0.0

    def __post_init__(self) -> None:
        _check("text", self.text, str, "give a text, in quotes")
        _check("reasoning", self.reasoning, str | None, "give a text, in quotes")
        for call in self.tool_calls:
            _check("a call", call, ToolCall, 'give ToolCall(id="", name=..., arguments=...)')
        _check("failure", self.failure, Failure | None, _FAILURES)
        joined = "".join(token.token for token in self.logprobs)
        if self.logprobs and joined != self.text:
            raise ValueError(
                f"The tokens of logprobs join to {joined!r} and the text is {self.text!r}; "
                "give one token for every piece of the text."
            )


class Script:
    """A queue of answers, given in order; safe to fill while the server runs.

    A request for ``n`` choices takes the next ``n`` answers.

    Args:
        otherwise: who answers when the queue is empty. By default the server repeats the
            last message, and says so.
    """

    def __init__(self, *, otherwise: Answerer | None = None) -> None:
        self._queue: deque[Reply | Failure] = deque()
        self._otherwise = otherwise
        self._call_numbers = itertools.count()

    def __len__(self) -> int:
        """How many answers are still to be given."""
        return len(self._queue)

    def say(self, *texts: str) -> None:
        """Queue plain text answers.

        Raises:
            TypeError: one is no text.
        """
        self._queue.extend([Reply(text) for text in texts])

    def json(self, *values: object) -> None:
        """Queue answers that are JSON, as a request with a ``response_format`` gets them."""
        texts = [json.dumps(value, ensure_ascii=False) for value in values]
        self.say(*texts)

    def call(self, name: str, /, **arguments: object) -> None:
        """Queue an answer that calls one tool.

        Raises:
            TypeError: the name is no text, or an argument cannot be JSON.
        """
        _check("the name of a tool", name, str, "give a text, in quotes")
        call = ToolCall(id="", name=name, arguments=json.dumps(arguments))
        self._queue.append(Reply(tool_calls=(call,)))

    def reply(self, *replies: Reply) -> None:
        """Queue answers.

        Raises:
            TypeError: one is no Reply.
        """
        for reply in replies:
            _check("an answer", reply, Reply, "give a Reply; for a text there is say()")
        self._queue.extend(replies)

    def fail(self, *failures: Failure) -> None:
        """Queue failures.

        Raises:
            TypeError: one is no Failure.
        """
        for failure in failures:
            _check("a failure", failure, Failure, _FAILURES)
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
        reply = planned or Reply(f"The loopback server heard: {prompt_texts(body)[-1]}")
        await asyncio.sleep(reply.delay)
        said = list(_chunks(reply, body, self._call_numbers))
        for chunk in _cut(reply, said, streamed=bool(body.get("stream"))):
            yield chunk
        if reply.failure is not None:
            raise reply.failure


def _check(what: str, value: object, kind: type | UnionType, advice: str) -> None:
    """Refuse a wrong value where it is written down, not in the client under test."""
    if not isinstance(value, kind):
        raise TypeError(f"{what} is {value!r}, a {type(value).__name__}; {advice}.")


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


@dataclass(frozen=True, slots=True)
class _Spoken:
    """A reply as far as the request's ``stop`` and ``max_tokens`` let it come."""

    thoughts: list[str]
    words: list[str]
    calls: tuple[ToolCall, ...]
    finish_reason: FinishReason
    stop: str | None = None


def _chunks(reply: Reply, body: Json, call_numbers: Iterator[int]) -> Iterator[Chunk]:
    spoken = _spoken(reply, body)
    prompt = _prompt_tokens(body)
    alternatives = logprobs_asked(body)
    given = {} if alternatives is None else dict(enumerate(reply.logprobs))
    yield Chunk(usage=Usage(prompt, 0))
    for thought in spoken.thoughts:
        yield Chunk(reasoning=thought, logprobs=_logprobs(thought, alternatives))
    for at, word in enumerate(spoken.words):
        # A stop string may have cut the last token short.
        known = (replace(given[at], token=word),) if at in given else ()
        tokens = known or _logprobs(word, alternatives)
        yield Chunk(text=word, logprobs=tokens)
    count = len(spoken.thoughts) + len(spoken.words)
    for index, call in enumerate(spoken.calls):
        arguments = pieces(call.arguments)
        count += 1 + len(arguments)
        opener = ToolCallDelta(index, call.id or _call_id(next(call_numbers)), call.name)
        yield Chunk(tool_calls=(opener,))
        for piece in arguments:
            yield Chunk(tool_calls=(ToolCallDelta(index, arguments=piece),))
    if reply.failure is not None:
        return
    yield Chunk(
        finish_reason=spoken.finish_reason,
        # The token that ends an answer has a probability as well.
        logprobs=() if reply.logprobs else _logprobs(_END, alternatives),
        warnings=reply.warnings,
        extra={} if spoken.stop is None else {"stop_reason": spoken.stop},
    )
    counted = Usage(prompt, count, reasoning_tokens=len(spoken.thoughts))
    yield Chunk(usage=reply.usage or counted)


def _spoken(reply: Reply, body: Json) -> _Spoken:
    thoughts, words = pieces(reply.reasoning or ""), pieces(reply.text)
    if reply.logprobs:
        words = [token.token for token in reply.logprobs]
    # A stop string is looked for in all that the model says, thoughts included.
    stop = _first_stop("".join(thoughts), body)
    if stop is not None:
        thoughts, words = _before(thoughts, stop[0]), []
    elif (stop := _first_stop("".join(words), body)) is not None:
        words = _before(words, stop[0])
    calls = () if stop is not None else reply.tool_calls
    limit = most_tokens(body)
    if limit is not None and limit < len(thoughts) + len(words) + sum(map(_call_tokens, calls)):
        thoughts = thoughts[:limit]
        words = words[: limit - len(thoughts)]
        calls = tuple(_calls_within(limit - len(thoughts) - len(words), calls))
        return _Spoken(thoughts, words, calls, "length")
    if stop is not None:
        return _Spoken(thoughts, words, (), "stop", stop[1])
    usual: FinishReason = "tool_calls" if reply.tool_calls else "stop"
    return _Spoken(thoughts, words, calls, reply.finish_reason or usual)


def _call_tokens(call: ToolCall) -> int:
    return 1 + len(pieces(call.arguments))


def _calls_within(limit: int, calls: Iterable[ToolCall]) -> Iterator[ToolCall]:
    """As much of the calls as a model comes to say in that many tokens."""
    for call in calls:
        if limit <= 0:
            return
        said = pieces(call.arguments)[: limit - 1]
        yield replace(call, arguments="".join(said))
        limit -= 1 + len(said)


def _first_stop(text: str, body: Json) -> tuple[int, str] | None:
    stop = body.get("stop") or []
    stops = [stop] if isinstance(stop, str) else stop
    return min(((at, s) for s in stops if s and (at := text.find(s)) >= 0), default=None)


def _before(words: list[str], end: int) -> list[str]:
    """The words as far as the text of ``end`` characters that they join to."""
    starts = itertools.accumulate((len(word) for word in words), initial=0)
    return [word[: end - start] for word, start in zip(words, starts, strict=False) if start < end]


def _logprobs(token: str, alternatives: int | None) -> tuple[TokenLogprob, ...]:
    """A token with a probability made from its letters, and less likely ones beside it."""
    if alternatives is None:
        return ()
    logprob = -(1 + sha256(token.encode("utf-8", "replace")).digest()[0]) / 256
    top = tuple((f"{token}{'?' * rank}", logprob - rank) for rank in range(alternatives))
    return (TokenLogprob(token, logprob, top),)


def _prompt_tokens(body: Json) -> int:
    return sum(len(pieces(text)) for text in prompt_texts(body))


def _call_id(number: int) -> str:
    return f"call_{sha256(str(number).encode()).hexdigest()[:24]}"
