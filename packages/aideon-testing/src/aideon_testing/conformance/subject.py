"""What is held to the suite: a backend or a client, asked in every way there is."""

from __future__ import annotations

import asyncio
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, TypeVar
from unittest import SkipTest

from aideon_core import AsyncClient, Client
from aideon_core.errors import AllBackendsFailed, Unsupported
from aideon_testing.conformance.promises import FEATURES, Broken
from aideon_testing.conformance.shapes import shape_of

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterable, Iterator, Mapping
    from types import TracebackType
    from typing import Self

    from aideon_core.backends.base import Backend
    from aideon_core.request import Messages
    from aideon_core.types import Chunk, Completion
    from aideon_testing.conformance.promises import Feature
    from aideon_testing.conformance.shapes import Shape

How: TypeAlias = Literal["whole", "streamed"]
T = TypeVar("T")

HOWS: Final = ("whole", "streamed")
_SECONDS: Final = 120.0
_LONGEST_TEXT: Final = 40
_LONGEST_FORM: Final = 300
# The others go by the name of the ability they need.
_OF_ABILITIES: Final[Mapping[Feature, str]] = {
    "tool_choice": "tools",
    "parallel_tool_calls": "tools",
    "json_schema": "json",
    "json_object": "json",
    "regex": "json",
}


@dataclass(frozen=True, slots=True)
class Answer:
    """What came: the whole answer, and where it was streamed, its pieces.

    Attributes:
        completion: the answer; of a stream, what the stream itself says it came to.
        chunks: the pieces, none where it was asked for whole.
        values: the partial value after each piece, where there was an ``output_type``.
    """

    completion: Completion
    chunks: tuple[Chunk, ...] = ()
    values: tuple[Any, ...] = ()


@dataclass(slots=True)
class _Trial:
    name: str
    needs: set[Feature] = field(default_factory=set)
    asked: int = 0


class Subject:
    """A backend or a client under examination; use it in a ``with`` block.

    What it is given stays the caller's to close. Every request is asked at temperature 0,
    with room for what it asks for and a deadline of two minutes, unless a body says otherwise.

    Args:
        given: what is examined.
        lacks: the features it does not have, besides those its abilities leave out.
        has: the features it has whatever its abilities say.
        repeats: the same request at temperature 0 and with a seed is answered the same.
        context_tokens: how long its context is; bodies that overrun it are skipped without.

    Attributes:
        features: what it has.
        shapes: the shape of every answer so far, by the body it came in.
        refused: the bodies in which a feature it lacks was refused, as it should be.
    """

    def __init__(
        self,
        given: Backend | Client,
        *,
        lacks: Iterable[Feature] = (),
        has: Iterable[Feature] = (),
        repeats: bool = True,
        context_tokens: int | None = None,
    ) -> None:
        self.client = given if isinstance(given, Client) else _client(given)
        self.repeats, self.context_tokens = repeats, context_tokens
        self.features = (_able(self.client) | set(has)) - set(lacks)
        self.shapes: dict[str, Shape] = {}
        self.refused: list[str] = []
        self._twin = AsyncClient.sharing(self.client)
        self._trial = _Trial("")
        self._noting = threading.Lock()
        self._loop = _Loop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the connections made for it; the backend may be used again."""
        try:
            self.awaited(self._twin.close())
        finally:
            self._loop.close()

    def ask(self, messages: Messages, how: str = "whole", **params: Any) -> Answer:  # noqa: ANN401
        """Ask, blocking; parameters as for ``Client.chat``."""
        params, number = _filled(params), self._numbered()
        if how == "whole":
            return self._noted(number, Answer(self.client.chat(messages, **params)))
        chunks, values = [], []
        with self.client.stream(messages, **params) as stream:
            for chunk in stream:
                chunks.append(chunk)
                values.append(stream.value)
            completion = stream.completion
        return self._noted(number, _streamed(chunks, values, completion))

    def ask_awaiting(
        self,
        messages: Messages,
        how: str = "whole",
        **params: Any,  # noqa: ANN401
    ) -> Answer:
        """Ask by the awaiting twin, on an event loop in a thread of its own."""
        return self.awaited(self.asking(messages, how, **params))

    async def asking(self, messages: Messages, how: str = "whole", **params: Any) -> Answer:  # noqa: ANN401
        """The awaiting twin of ``ask``."""
        params, number = _filled(params), self._numbered()
        if how == "whole":
            return self._noted(number, Answer(await self._twin.chat(messages, **params)))
        chunks, values = [], []
        async with self._twin.stream(messages, **params) as stream:
            async for chunk in stream:
                chunks.append(chunk)
                values.append(stream.value)
            completion = stream.completion
        return self._noted(number, _streamed(chunks, values, completion))

    def awaited(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine to its end on the subject's own event loop."""
        return self._loop.run(work)

    def needs(self, *features: Feature) -> None:
        """What the requests from here on need, besides what the body says of itself."""
        self._trial.needs.update(features)

    def only_if(self, told: object, reason: str) -> None:
        """Skip the body unless it can be proved here.

        Raises:
            SkipTest: ``told`` is false.
        """
        if not told:
            raise SkipTest(reason)

    @contextmanager
    def proving(self, name: str, needs: Iterable[Feature] = ()) -> Iterator[None]:
        """A body's own block: inside of it, what is lacked has to be refused.

        Raises:
            Broken: a feature that is declared absent was not refused with Unsupported.
        """
        trial = self._trial = _Trial(name, set(needs))
        try:
            yield
        except SkipTest:
            raise
        except Exception as error:
            if not (absent := self._absent(trial)):
                raise
            if not _is_unsupported(error):
                raise Broken(
                    f"{absent} is declared absent, so Unsupported was due; "
                    f"{type(error).__name__} came: {error}"
                ) from error
            self.refused.append(name)
        else:
            if absent := self._absent(trial):
                raise Broken(
                    f"{absent} is declared absent, so Unsupported was due; the request was "
                    "answered, as if nothing had been asked for."
                )

    def _absent(self, trial: _Trial) -> str:
        return ", ".join(sorted(trial.needs - self.features))

    def _numbered(self) -> int:
        """The number of a request in its body: one that is never answered has one too."""
        with self._noting:
            self._trial.asked += 1
            return self._trial.asked

    def _noted(self, number: int, answer: Answer) -> Answer:
        with self._noting:
            self.shapes[f"{self._trial.name} #{number}"] = shape_of(answer)
        return answer


class _Loop:
    """An event loop in a thread: it works where the caller's own loop is running too."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="aideon-conformance", daemon=True
        )
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def close(self) -> None:
        self.run(self._loop.shutdown_asyncgens())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


def _client(backend: Backend) -> Client:
    if backend.side == "local":
        return Client(local=backend, cloud=None, policy="local-only")
    return Client(local=None, cloud=backend, policy="cloud-only")


def _able(client: Client) -> set[Feature]:
    abilities = {each for backend in client.backends.values() for each in backend.abilities}
    return {each for each in FEATURES if _OF_ABILITIES.get(each, each) in abilities}


def _filled(params: dict[str, Any]) -> dict[str, Any]:
    formed = params.keys() & {"tools", "response_format", "output_type"}
    longest = _LONGEST_FORM if formed else _LONGEST_TEXT
    return {"temperature": 0.0, "max_tokens": longest, "deadline": _SECONDS, **params}


def _streamed(chunks: list[Chunk], values: list[Any], completion: Completion | None) -> Answer:
    if completion is None:
        raise Broken("A stream ended and left no completion behind.")
    return Answer(completion, tuple(chunks), tuple(values))


def _is_unsupported(error: BaseException) -> bool:
    if isinstance(error, AllBackendsFailed):
        return all(map(_is_unsupported, error.exceptions))
    return isinstance(error, Unsupported)
