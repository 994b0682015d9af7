"""The answers of ``stream``: chunks as they come, and what they have come to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aideon_core.types import Chunk, Completion

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from types import TracebackType
    from typing import Self

    from aideon_core.drive import Stop
    from aideon_core.schema import Partial
    from aideon_core.types import Request


class _Received:
    """What both streams keep of what has come."""

    def __init__(self, request: Request) -> None:
        self.completion: Completion | None = None
        output = request.output
        self._partial: Partial | None = None if output is None else output.partial()
        if self._partial is not None:
            self._partial.feed(request.prefix or "")

    @property
    def value(self) -> Any:  # noqa: ANN401 - JSON
        """The answer's JSON as far as it has come, where an ``output_type`` was given.

        Plain JSON types, None before it begins: strings grow, numbers show once they are
        complete. It is one object that grows; ``completion.value`` is the final one, of the
        type. Of several answers it is the first.
        """
        return None if self._partial is None else self._partial.value

    def _note(self, item: Chunk | Completion) -> None:
        if isinstance(item, Completion):
            self.completion = item
            if self._partial is not None:
                self._partial.end()
        elif self._partial is not None and not item.index:
            self._partial.feed(item.text)


class Stream(_Received):
    """The chunks of an answer; the last one carries usage, cost and route.

    ``completion`` is the whole answer, None until the stream has ended, and ``value`` what an
    ``output_type`` reads of it so far. Closing early, from any thread, or leaving the ``with``
    block, stops the answer at its source.
    """

    def __init__(self, items: Iterator[Chunk | Completion], stop: Stop, request: Request) -> None:
        super().__init__(request)
        self._items = items
        self._stop = stop

    def __iter__(self) -> Iterator[Chunk]:
        return self

    def __next__(self) -> Chunk:
        item = next(self._items)
        self._note(item)
        if isinstance(item, Completion):
            item = next(self._items)
        assert isinstance(item, Chunk)
        return item

    def close(self) -> None:
        """Stop the answer; another thread that waits for a piece sees the stream end."""
        opened = self._stop.ask()
        try:
            self._items.close()  # type: ignore[attr-defined]
        except ValueError:
            # It runs in another thread, which is woken by the end of what it waits for.
            for stream in opened:
                stream.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class AsyncStream(_Received):
    """The awaiting twin of Stream."""

    def __init__(
        self, items: AsyncIterator[Chunk | Completion], stop: Stop, request: Request
    ) -> None:
        super().__init__(request)
        self._items = items
        self._stop = stop

    def __aiter__(self) -> AsyncIterator[Chunk]:
        return self

    async def __anext__(self) -> Chunk:
        item = await anext(self._items)
        self._note(item)
        if isinstance(item, Completion):
            item = await anext(self._items)
        assert isinstance(item, Chunk)
        return item

    async def aclose(self) -> None:
        """Stop the answer; another task that waits for a piece sees the stream end."""
        opened = self._stop.ask()
        try:
            await self._items.aclose()  # type: ignore[attr-defined]
        except RuntimeError:
            for stream in opened:
                await stream.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()
