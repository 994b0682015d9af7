"""The GGUF model as a backend."""

from __future__ import annotations

import asyncio
import os
from contextlib import closing, suppress
from dataclasses import replace
from decimal import Decimal
from importlib.util import find_spec
from pathlib import Path
from queue import Empty, SimpleQueue
from secrets import token_hex
from typing import TYPE_CHECKING

from aideon_core import catalog
from aideon_core.backends.llama_cpp.files import gguf, trained_context
from aideon_core.backends.llama_cpp.options import ModelOptions
from aideon_core.config import Config
from aideon_core.deadline import Deadline
from aideon_core.errors import (
    AideonError,
    ConfigError,
    MissingDependency,
    NotPulled,
    TimedOut,
)
from aideon_core.types import Chunk, Completion, ModelFacts

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping
    from os import PathLike

    from aideon_core.backends.llama_cpp.counting import Counter
    from aideon_core.backends.llama_cpp.engine import Engine
    from aideon_core.backends.llama_cpp.job import Job, Piece, Sink
    from aideon_core.catalog import ModelFile
    from aideon_core.routing import Ability
    from aideon_core.types import Request, Side

_GIGABYTE = 1_000_000_000


class LlamaCppBackend:
    """Answers from a GGUF model in this process; nothing leaves the machine.

    The model is loaded by the first request, in a thread of its own, and shared by every
    backend in the process with the same options. Requests are answered side by side.

    Args:
        model: a catalogue id, or the path of a ``.gguf`` file.
        n_ctx: the context in tokens, at most what the model was trained for.
        n_threads: threads to compute with; the machine's cores when not given.
        n_gpu_layers: layers to put on the GPU, -1 for all.
        main_gpu: the number of the GPU to use where there are several.
        parallel: how many conversations are held in memory and answered at once, each with a
            context of its own; four, or what is sensible for a large model, when not given.
        reproducible: whether answers at temperature 0, or with a seed, are the same whatever
            else the model is doing. Without, such answers are computed together with others,
            which is faster when many ask at once.
        idle_seconds: the model leaves memory when nobody asked it for so long, and is loaded
            again by the next request; never when not given.
        max_queue: how many requests may wait besides those being answered; the next one goes
            to another backend or fails with QueueFull. Without limit when not given.
        chat_template: a Jinja template to use instead of the one in the file.
        config: settings to use instead of the environment's.

    Raises:
        UnknownModel: no catalogue id and no file goes by that name.
        NotGguf: the file is something else.
        ConfigError: a setting is not a number that it can be.
    """

    name: str = "local"
    side: Side = "local"
    abilities: frozenset[Ability] = frozenset(
        {
            "tools",
            "json",
            "json_with_tools",
            "logprobs",
            "n",
            "prefix",
            "top_k",
            "min_p",
            "repetition_penalty",
            "logit_bias",
        }
    )

    def __init__(  # noqa: PLR0913 - keyword-only, all optional
        self,
        model: str | PathLike[str],
        *,
        n_ctx: int = 8192,
        n_threads: int | None = None,
        n_gpu_layers: int = 0,
        main_gpu: int | None = None,
        parallel: int | None = None,
        reproducible: bool = True,
        idle_seconds: float | None = None,
        max_queue: int | None = None,
        chat_template: str | None = None,
        config: Config | None = None,
    ) -> None:
        counts = {"n_ctx": n_ctx, "n_threads": n_threads, "parallel": parallel}
        _check_numbers(counts | {"idle_seconds": idle_seconds, "max_queue": max_queue})
        config = config or Config.load()
        self._home = config.home
        self._entry, path = _resolve(os.fspath(model), self._home)
        self.model = self._entry.id if self._entry else path.name
        limit = config.local_memory_gb
        self._options = ModelOptions(
            path,
            n_ctx=n_ctx,
            n_threads=n_threads,
            n_gpu_layers=n_gpu_layers,
            main_gpu=main_gpu,
            parallel=parallel,
            reproducible=reproducible,
            idle_seconds=idle_seconds,
            max_queue=max_queue,
            memory_limit=None if limit is None else int(limit * _GIGABYTE),
        )
        self._chat_template = chat_template
        self._facts: ModelFacts | None = None
        self._engine: Engine | None = None

    @property
    def path(self) -> Path:
        """Where the model's file is, or will be once it is pulled."""
        return self._options.path

    @property
    def facts(self) -> ModelFacts:
        """The context that requests get: ``n_ctx``, or less where the model cannot do more."""
        if self._facts is None:
            trained = trained_context(self.path)
            tokens = min(trained or self._options.n_ctx, self._options.n_ctx)
            facts = ModelFacts(tokens, tokens, media=False)
            if trained is None:
                return facts
            self._facts = facts
        return self._facts

    @property
    def engine(self) -> Engine | None:
        """The engine in use, None before the first request and after ``close``."""
        return self._engine

    def __repr__(self) -> str:
        return f"LlamaCppBackend({self.model!r})"

    def unavailable(self) -> AideonError | None:
        """NotPulled when the file is not here, MissingDependency without llama-cpp-python."""
        if self._engine is not None:
            return None
        if find_spec("llama_cpp") is None:
            return MissingDependency(
                "llama-cpp-python is not installed, so no model can run here.",
                hint="pip install 'aideon-core[local]'",
                backend=self.name,
                model=self.model,
            )
        if self._entry is not None and not catalog.is_pulled(self._home, self._entry):
            return NotPulled(
                f"{self.model!r} is not on this machine.",
                hint=f"Fetch it with: aideon pull {self.model}",
                backend=self.name,
                model=self.model,
            )
        return None

    def complete(self, request: Request) -> Completion:
        """Answer in one piece."""
        with closing(self.stream(request)) as stream:
            return Completion.from_chunks(stream)

    async def acomplete(self, request: Request) -> Completion:
        """Answer in one piece without blocking the event loop."""
        stream = await self.astream(request)
        try:
            return Completion.from_chunks([chunk async for chunk in stream])
        finally:
            await stream.aclose()

    def stream(self, request: Request) -> _Stream:
        """Queue the request; pieces arrive once the model gets to it."""
        pieces: SimpleQueue[Piece] = SimpleQueue()
        return _Stream(self, self._submit(request, pieces.put), pieces, request.deadline)

    async def astream(self, request: Request) -> _AsyncStream:
        """Queue the request; pieces arrive once the model gets to it."""
        loop = asyncio.get_running_loop()
        pieces: asyncio.Queue[Piece] = asyncio.Queue()

        def sink(piece: Piece) -> None:
            # The caller's loop may be closed by now; then nobody waits for the piece.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(pieces.put_nowait, piece)

        return _AsyncStream(self, self._submit(request, sink), pieces, request.deadline)

    def tokens(self, text: str) -> list[int]:
        """The tokens of a text, by the model's vocabulary; loads no weights.

        Raises:
            AideonError: the file is not here, or llama.cpp cannot read it.
        """
        return self._counter().tokens(text)

    def count_tokens(self, request: Request) -> int:
        """How many tokens the prompt of a request has; loads no weights.

        Raises:
            AideonError: the file is not here, llama.cpp cannot read it, or its template
                refuses the messages.
        """
        return self._counter().count(request, self._chat_template)

    def _counter(self) -> Counter:
        from aideon_core.backends.llama_cpp.counting import counter

        if (reason := self.unavailable()) is not None:
            raise reason
        return counter(self.path)

    def close(self) -> None:
        """Give the model up; it is freed once no other backend uses it."""
        self._engine = None

    async def aclose(self) -> None:
        """Give the model up; it is freed once no other backend uses it."""
        self.close()

    def _submit(self, request: Request, sink: Sink) -> Job:
        # Threads and queues, which most who import this package never start.
        from aideon_core.backends.llama_cpp.engine import Engine
        from aideon_core.backends.llama_cpp.job import Job

        if (reason := self.unavailable()) is not None:
            raise reason
        engine = self._engine or Engine.shared(self._options)
        self._engine = engine
        job = Job(request, self._chat_template, sink, engine)
        engine.submit(job)
        return job

    def chunk(self, piece: Piece) -> Chunk | None:
        """A piece as the caller sees it, None at the end; errors are raised and attributed."""
        if isinstance(piece, AideonError):
            piece.backend, piece.model = self.name, self.model
        if isinstance(piece, BaseException):
            raise piece
        if piece is None or piece.usage is None:
            return piece
        return replace(piece, model=self.model, cost=Decimal(0), id=f"local-{token_hex(12)}")


class _Stream:
    """The pieces the worker puts into a queue."""

    def __init__(
        self,
        backend: LlamaCppBackend,
        job: Job,
        pieces: SimpleQueue[Piece],
        deadline: float | None,
    ) -> None:
        self._backend, self._job, self._pieces = backend, job, pieces
        self._deadline = Deadline(deadline)
        self._ended = False

    def __iter__(self) -> Iterator[Chunk]:
        return self

    def __next__(self) -> Chunk:
        if self._ended:
            raise StopIteration
        self._ended = True
        try:
            piece = self._pieces.get(timeout=self._deadline.left())
        except (Empty, TimedOut):
            piece = self._deadline.passed()
        chunk = self._backend.chunk(piece)
        if chunk is None:
            raise StopIteration
        self._ended = False
        return chunk

    def close(self) -> None:
        self._ended = True
        self._job.cancel()


class _AsyncStream:
    """The awaiting twin of _Stream."""

    def __init__(
        self,
        backend: LlamaCppBackend,
        job: Job,
        pieces: asyncio.Queue[Piece],
        deadline: float | None,
    ) -> None:
        self._backend, self._job, self._pieces = backend, job, pieces
        self._deadline = Deadline(deadline)
        self._ended = False

    def __aiter__(self) -> AsyncIterator[Chunk]:
        return self

    async def __anext__(self) -> Chunk:
        if self._ended:
            raise StopAsyncIteration
        self._ended = True
        try:
            async with self._deadline.enforced():
                piece = await self._pieces.get()
        except TimedOut as error:
            piece = error
        chunk = self._backend.chunk(piece)
        if chunk is None:
            raise StopAsyncIteration
        self._ended = False
        return chunk

    async def aclose(self) -> None:
        self._ended = True
        self._job.cancel()


def _check_numbers(given: Mapping[str, object]) -> None:
    for name, value in given.items():
        whole, low = name != "idle_seconds", 0 if name in ("idle_seconds", "max_queue") else 1
        kinds = (int,) if whole else (int, float)
        if value is None and name != "n_ctx":
            continue
        if not isinstance(value, kinds) or isinstance(value, bool) or value < low:
            wanted = "a whole number" if whole else "a number of seconds"
            raise ConfigError(f"{name} is {value!r} and has to be {wanted} of at least {low}.")


def _resolve(model: str, home: Path) -> tuple[ModelFile | None, Path]:
    """The catalogue row, if the name is an id, and where the file is or will be."""
    path = Path(model).expanduser()
    looks_like_path = path.suffix == ".gguf" or len(path.parts) > 1 or path.is_file()
    if not looks_like_path:
        entry = catalog.find(model)
        return entry, catalog.path(home, entry)
    known = ", ".join(m.id for m in catalog.MODELS)
    return None, gguf(model, hint=f"Give a .gguf file or one of: {known}.")
