"""A perfect model: it does what a request says, and nothing of its own."""

from __future__ import annotations

import itertools
import json
from contextlib import aclosing
from typing import TYPE_CHECKING, Final

from aideon_core.types import ToolCall
from aideon_testing.answers import prompt_texts
from aideon_testing.conformance.examples import example, matching
from aideon_testing.script import Reply, Script

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator, Sequence

    from aideon_core.types import Chunk, Json

_STORY: Final = "Once upon a time a hedgehog went out, and it rained. " * 60


class ObedientAnswers:
    """Answers chat requests as they ask: a proof that the suite can be passed.

    Tools are called unless a result was told last, forms are filled with the least value they
    allow, a story is long, and everything else is repeated. ``stop``, ``max_tokens`` and
    ``logprobs`` apply as they do to every answerer of the loopback server.
    """

    def __init__(self) -> None:
        self._numbers = itertools.count(1)

    async def answer(self, body: Json) -> AsyncGenerator[Chunk, None]:
        """Answer one request; see Answerer."""
        script = Script()
        script.reply(self._reply(body))
        async with aclosing(script.answer(body)) as chunks:
            async for chunk in chunks:
                yield chunk

    def _reply(self, body: Json) -> Reply:
        if called := _called(body):
            return Reply(tool_calls=tuple(self._calls(called)))
        return Reply(_text(body))

    def _calls(self, tools: Sequence[Json]) -> Iterator[ToolCall]:
        for function in tools:
            arguments = json.dumps(example(function.get("parameters") or {}), ensure_ascii=False)
            yield ToolCall(f"call_{next(self._numbers)}", function["name"], arguments)


def _called(body: Json) -> Sequence[Json]:
    functions = [tool["function"] for tool in body.get("tools") or ()]
    choice = body.get("tool_choice") or "auto"
    if not functions or choice == "none":
        return ()
    if not isinstance(choice, str):
        return [each for each in functions if each["name"] == choice["function"]["name"]]
    if choice == "auto" and (body["messages"][-1]["role"] == "tool" or body.get("response_format")):
        return ()
    return functions[:1] if body.get("parallel_tool_calls") is False else functions[:2]


def _text(body: Json) -> str:
    heard = prompt_texts(body)[-1]
    match body.get("response_format"):
        case {"type": "json_schema", "json_schema": {"schema": dict(schema)}}:
            return json.dumps(example(schema), ensure_ascii=False)
        case {"type": "json_object"}:
            return json.dumps({"heard": heard}, ensure_ascii=False)
        case {"type": "regex", "pattern": str(pattern)}:
            return matching(pattern)
    return _STORY if "story" in heard else f"I heard: {heard}"
