"""Streams of several answers to one request, mixed frame by frame."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aideon_core.backends.wire.answers import FrameReader, frame_in
from aideon_core.backends.wire.request import most_answers
from aideon_core.backends.wire.values import other_choices, our_choice

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from aideon_core.types import Chunk, Request


class AnswersReader:
    """Reads the data of server-sent events one by one, whatever the number of answers in them.

    Args:
        model: the model that was asked; the one in the first frame when not given.
        request: what was asked; see FrameReader. Answers beyond its ``n`` are left out.
    """

    def __init__(self, model: str = "", request: Request | None = None) -> None:
        self._model, self._request = model, request
        self._first = FrameReader(model, request)
        self._others: dict[int, FrameReader] = {}
        self._most = most_answers(request)
        self._done = False

    @property
    def finished(self) -> bool:
        """Whether the first answer is whole, and so is each other one that has begun."""
        others = self._done or all(other.finished for other in self._others.values())
        return self._first.finished and others

    def read(self, data: str, event: str = "message") -> Sequence[Chunk]:
        """The chunks in one event, one for each answer that it continues.

        Args:
            data: the event's data.
            event: the event's name.

        Raises:
            ServerError: the event is not JSON, or reports an error.
        """
        if self._most == 1:
            chunk = self._first.read(data, event)
            return () if chunk is None else (chunk,)
        return [*self._chunks(data, event)]

    def close(self) -> Sequence[Chunk]:
        """What was held back of each answer, once no event follows."""
        held = (reader.close() for reader in (*self._others.values(), self._first))
        return [chunk for chunk in held if chunk is not None]

    def _chunks(self, data: str, event: str) -> Iterator[Chunk]:
        self._done = self._done or data.startswith("[DONE]")
        if event == "error" or self._done or not data or data.isspace():
            ended = (reader.read(data, event) for reader in (*self._others.values(), self._first))
            yield from (chunk for chunk in ended if chunk is not None)
            return
        frame = frame_in(data)
        for index, choice in other_choices(frame.get("choices"), self._most):
            yield from self._of_other(index, frame, choice)
        yield self._first.take(frame, our_choice(frame.get("choices")))

    def _of_other(
        self, index: int, frame: Mapping[str, Any], choice: Mapping[str, Any]
    ) -> Iterator[Chunk]:
        reader = self._others.get(index)
        if reader is None:
            reader = FrameReader(self._model, self._request, index=index)
            self._others[index] = reader
        chunk = reader.take(frame, choice)
        # An answer with nothing in it, not even an end, is none.
        if any(
            (chunk.text, chunk.reasoning, chunk.tool_calls, chunk.finish_reason, chunk.logprobs)
        ):
            yield chunk
