"""A model's text, while it is written, as the text and the calls that a server would stream."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from itertools import groupby
from typing import TYPE_CHECKING, Final

from aideon_core.errors import BadRequest, InvalidOutput
from aideon_core.schema.validators import of_schema
from aideon_core.tools.pieces import Pieces
from aideon_core.tools.reading import read
from aideon_core.types import Chunk, ToolCall, ToolCallDelta

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from aideon_core.schema.validators import Check
    from aideon_core.tools.pieces import Event
    from aideon_core.types import Json

_ID_BYTES: Final = 12


def new_call_id() -> str:
    """An id for a call as OpenAI's API writes them: ``call_`` and 24 hexadecimal digits."""
    return f"call_{os.urandom(_ID_BYTES).hex()}"


class CallStream:
    """Turns a model's text, as it is written, into text and deltas of tool calls.

    Its chunks joined say what ``read_calls`` says of the whole text, however it is cut. JSON
    arguments come while they are written, calls in any other way of writing when they are
    whole. Arguments are valid JSON whatever the model's quotes and commas.

    What was given out is not taken back: when arguments end amid themselves, because the text
    was cut off or goes on with what is no JSON, the call stays, with its arguments as far as
    they could be read, and what comes after is text. Such a call is not among ``calls``, and
    as in a stream of a server its arguments are no whole JSON.

    Args:
        tools: the functions there are, with the JSON Schemas of their parameters.
        new_id: gives ids to calls, where the model wrote none before their arguments.
        parallel: whether there may be more than one call. With False everything after the
            first whole call is dropped.

    Attributes:
        calls: the calls that are whole.
        over: whether nothing can come any more.
    """

    def __init__(
        self,
        tools: Mapping[str, Json],
        *,
        new_id: Callable[[], str] = new_call_id,
        parallel: bool = True,
    ) -> None:
        self.calls: tuple[ToolCall, ...] = ()
        self.over = False
        self._tools, self._parallel = tools, parallel
        self._checks: dict[str, Check] = {}
        self._text = Pieces(new_id)
        self._reading = read(self._text, tools)
        self._began: str | None = None
        next(self._reading)

    def feed(self, piece: str) -> tuple[Chunk, ...]:
        """Take the next piece.

        Returns:
            What is certain now.

        Raises:
            ValueError: the text was finished before.
        """
        if self._text.closed:
            raise ValueError("The text was finished; a new one takes a new CallStream.")
        before, end = self._text.opened, self._text.offset + self._text.waiting + len(piece)
        self._text.add(piece)
        next(self._reading)
        opened = self._text.opened
        self._began = None
        if opened is not None and opened is not before:
            self._began = piece[len(piece) - (end - opened.at) :]
        return self._chunks()

    def finish(self) -> tuple[Chunk, ...]:
        """The text is over; gives what was held back."""
        self._text.closed = True
        next(self._reading, None)
        self._began = None
        return self._chunks()

    @property
    def arguments_begin(self) -> str | None:
        """The tool whose JSON arguments began in the last piece and go on after it.

        From here on the text can be held to the tool's schema, followed by ``closing``.
        """
        opened = self._text.opened
        return opened.name if opened is not None and self._began is not None else None

    @property
    def arguments_began_with(self) -> str:
        """The arguments so far, as written, from their brace on; empty when none began."""
        return self._began or ""

    @property
    def closing(self) -> str:
        """The text that has to follow the arguments being read for their call's object to end.

        It is ``}``, or ``}}`` where the object is inside another, or empty where no object
        describes the call, or no arguments are being read.
        """
        return self._text.opened.closing if self._text.opened is not None else ""

    @property
    def started(self) -> int:
        """Where the text of the current or the last call begins, in characters.

        Its tag or fence belongs to it. For another call in the same tag or list this is where
        the one before ended.
        """
        return self._text.started

    def invalid(self, call: ToolCall) -> str | None:
        """What is wrong with a call's arguments by the tool's schema, None if nothing is.

        Raises:
            BadRequest: the tool's parameters are no JSON Schema.
        """
        if call.name not in self._checks:
            try:
                self._checks[call.name] = of_schema(dict(self._tools[call.name]))
            except BadRequest as error:
                raise BadRequest(
                    f"The parameters of the tool {call.name!r} are no JSON Schema that can be "
                    f"used: {error.message.partition(': ')[2]}",
                    hint="A $ref has to lead to a place inside the schema, such as #/$defs/name.",
                    param="tools",
                ) from error
        try:
            self._checks[call.name](call.arguments, json.loads(call.arguments))
        except InvalidOutput as error:
            return error.message
        return None

    def _chunks(self) -> tuple[Chunk, ...]:
        parts = groupby(self._taken(self._text.events()), _call_of)
        return tuple(_chunk(list(each)) for _, each in parts)

    def _taken(self, events: Iterable[Event]) -> Iterator[str | ToolCallDelta]:
        for event in events:
            if self.over:
                return
            if not isinstance(event, ToolCall):
                if event:
                    yield event
                continue
            self.calls += (event,)
            self.over = not self._parallel
        self.over = self.over or self._text.closed


def _call_of(part: str | ToolCallDelta) -> int | None:
    return part.index if isinstance(part, ToolCallDelta) else None


def _chunk(parts: Sequence[str | ToolCallDelta]) -> Chunk:
    """Pieces of text, or pieces of one call, as one chunk."""
    deltas = [part for part in parts if isinstance(part, ToolCallDelta)]
    if not deltas:
        return Chunk(text="".join(part for part in parts if isinstance(part, str)))
    arguments = "".join(delta.arguments for delta in deltas)
    return Chunk(tool_calls=(replace(deltas[0], arguments=arguments),))
