"""Calls, results and answers, one round after the other."""

from __future__ import annotations

import asyncio
import json
from contextvars import copy_context
from dataclasses import dataclass, replace
from functools import reduce
from operator import add
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from aideon_core.deadline import Deadline
from aideon_core.errors import BadArguments, ConfigError, ToolLoopExceeded
from aideon_core.tools.parameters import loaded
from aideon_core.tools.results import failure, text_of
from aideon_core.tools.tool import Tool
from aideon_core.types import Completion, Message, ToolCall, Usage

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from decimal import Decimal

OnError: TypeAlias = Literal["tell", "raise"]
"""What happens when a tool fails: the model is told, or the caller."""

_MOST_THREADS: Final = 16
_SHORTEST: Final = 0.001  # of a request


@dataclass(frozen=True, slots=True)
class ToolRun:
    """An answer with all that led to it.

    Attributes:
        messages: the whole conversation: what was asked, every call, every result and the
            answer.
        completions: what the model said in each round; the last one is the answer.
    """

    messages: tuple[Message, ...]
    completions: tuple[Completion, ...]

    @property
    def completion(self) -> Completion:
        """The answer."""
        return self.completions[-1]

    @property
    def text(self) -> str:
        """The text of the answer."""
        return self.completion.text

    @property
    def usage(self) -> Usage | None:
        """The tokens of all rounds, None when those of one are not known."""
        known = [each.usage for each in self.completions if each.usage is not None]
        return reduce(add, known) if len(known) == len(self.completions) else None

    @property
    def cost(self) -> Decimal | None:
        """US dollars for all rounds, None when those of one are not known."""
        known = [each.cost for each in self.completions if each.cost is not None]
        return reduce(add, known) if len(known) == len(self.completions) else None


class Loop:
    """The state of a run between its rounds; the clients ask, and run the calls.

    Args:
        messages: the conversation so far.
        params: the parameters of every round. A ``tool_choice`` that forces a call holds for
            the first round, because under it no model ever comes to an answer; ``deadline``
            holds for all of them together.
        max_rounds: how often the model is asked at most.
        on_error: who is told when a tool fails.

    Raises:
        ConfigError: a tool cannot be called, or two have one name.
    """

    def __init__(
        self,
        messages: Sequence[Message],
        params: Mapping[str, Any],
        *,
        max_rounds: int,
        on_error: OnError,
    ) -> None:
        if max_rounds not in range(1, 1_000_000):
            raise ConfigError(
                f"max_rounds is {max_rounds!r} and has to be a whole number from 1 on."
            )
        if on_error not in ("tell", "raise"):
            raise ConfigError(f"on_error is {on_error!r}.", hint="It takes 'tell' or 'raise'.")
        self.messages = tuple(messages)
        self._tools = _by_name(params.get("tools") or ())
        self._params = {**params, "tools": tuple(self._tools.values())}
        self._max_rounds, self._on_error = max_rounds, on_error
        self._completions: list[Completion] = []
        self._deadline = Deadline(params.get("deadline"))

    def params(self) -> dict[str, Any]:
        """The parameters of the next round.

        Raises:
            TimedOut: the deadline is over.
        """
        params = dict(self._params)
        if self._completions and params.get("tool_choice") not in ("auto", "none"):
            params["tool_choice"] = None
        if (left := self._deadline.left()) is not None:
            params["deadline"] = max(left, _SHORTEST)
        return params

    def take(self, completion: Completion) -> tuple[ToolCall, ...]:
        """Take what the model said.

        Returns:
            The calls to run now, none when the run is over.

        Raises:
            ToolLoopExceeded: there are some, and no round is left.
        """
        self._completions.append(completion)
        # What was cut off is not what the model meant to call.
        cut = completion.finish_reason in ("length", "content_filter")
        calls = (
            ()
            if cut
            else tuple(
                replace(call, id=call.id or f"call_{len(self._completions)}_{at}")
                for at, call in enumerate(completion.tool_calls)
            )
        )
        sent = tuple(_readable(call) for call in calls)
        self.messages += (Message("assistant", completion.text, tool_calls=sent),)
        if calls and len(self._completions) == self._max_rounds:
            error = ToolLoopExceeded(
                f"After {self._max_rounds} rounds the model still calls "
                f"{', '.join(dict.fromkeys(call.name for call in calls))}.",
                hint="Give a larger max_rounds=; everything so far is in .run.",
            )
            error.run = self.result()
            raise error
        return calls

    def answer(self, calls: Sequence[ToolCall], results: Sequence[str]) -> None:
        """Take the results of the calls, in their order."""
        self.messages += tuple(
            Message("tool", result, name=call.name, tool_call_id=call.id)
            for call, result in zip(calls, results, strict=True)
        )

    def result(self) -> ToolRun:
        """All that happened so far."""
        return ToolRun(self.messages, tuple(self._completions))

    def run(self, calls: Sequence[ToolCall]) -> list[str]:
        """Run calls at the same time, each in a thread, and wait for all of them."""
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(min(len(calls), _MOST_THREADS)) as threads:
            futures = [threads.submit(copy_context().run, self._run, call) for call in calls]
        return [future.result() for future in futures]

    async def arun(self, calls: Sequence[ToolCall]) -> list[str]:
        """Run calls at the same time; whoever cancels this cancels them."""
        failed: BaseException | None = None
        tasks: list[asyncio.Task[str]] = []
        try:
            async with asyncio.TaskGroup() as group:
                tasks += [group.create_task(self._arun(call)) for call in calls]
        except BaseExceptionGroup as errors:
            failed = errors.exceptions[0]
        if failed is not None:
            raise failed
        return [task.result() for task in tasks]

    def _run(self, call: ToolCall) -> str:
        if call.name not in self._tools:
            return self._unknown(call)
        try:
            return text_of(self._tools[call.name].call(call.arguments))
        except Exception as error:  # noqa: BLE001 - tools raise anything
            return self._told(error)

    async def _arun(self, call: ToolCall) -> str:
        if call.name not in self._tools:
            return self._unknown(call)
        try:
            return text_of(await self._tools[call.name].acall(call.arguments))
        except Exception as error:  # noqa: BLE001 - tools raise anything
            return self._told(error)

    def _unknown(self, call: ToolCall) -> str:
        return f"There is no tool {call.name!r}. There are: {', '.join(self._tools)}."

    def _told(self, error: Exception) -> str:
        # Wrong arguments are the model's mistake, which it can mend.
        if self._on_error == "raise" and not isinstance(error, BadArguments):
            raise error
        return failure(error)


def _readable(call: ToolCall) -> ToolCall:
    """The call as servers can read it, who refuse a conversation over what is no JSON."""
    try:
        json.loads(call.arguments)
    except (ValueError, RecursionError):
        try:
            given = loaded(call.arguments, call.name)
        except BadArguments:
            given = {}
        return replace(call, arguments=json.dumps(given, ensure_ascii=False))
    return call


def _by_name(tools: Sequence[Any]) -> dict[str, Tool[..., Any]]:
    named: dict[str, Tool[..., Any]] = {}
    for each in tools:
        if not callable(each):
            raise ConfigError(
                f"{each!r} cannot be called.", hint="run_tools takes functions and tools."
            )
        made = Tool.of(each)
        if made.name in named:
            raise ConfigError(
                f"Two tools are named {made.name!r}.", hint="Give one of them another name=."
            )
        named[made.name] = made
    return named
