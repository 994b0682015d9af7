"""One worker thread owns one model; requests wait in a queue for it."""

from __future__ import annotations

import atexit
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import TYPE_CHECKING, ClassVar, TypeAlias
from weakref import WeakSet, WeakValueDictionary, finalize

from aideon_core.backends.llama_cpp.stops import StopFilter
from aideon_core.errors import LoadFailed, NoChatTemplate, ServerError
from aideon_core.types import Chunk, FinishReason, Request, Usage

if TYPE_CHECKING:
    from aideon_core.backends.llama_cpp.model import Model
    from aideon_core.backends.llama_cpp.options import ModelOptions
    from aideon_core.backends.llama_cpp.template import ChatTemplate

Piece: TypeAlias = "Chunk | BaseException | None"
"""A chunk of an answer; None, or the exception that ended it, comes last."""

Sink: TypeAlias = Callable[[Piece], None]


@dataclass(slots=True)
class Job:
    """A request on its way to the worker. ``cancel()`` may be called from any thread."""

    request: Request
    chat_template: str | None
    sink: Sink
    # Keeps the engine alive until the answer is given, whoever lets go of it meanwhile.
    engine: Engine
    _cancelled: threading.Event = field(default_factory=threading.Event)

    def cancel(self) -> None:
        """Stop within a token; nothing more reaches the sink than what is under way."""
        self._cancelled.set()

    def wanted(self) -> bool:
        """Whether anybody still waits for the answer."""
        return not self._cancelled.is_set()


class Engine:
    """A handle on a worker; the model is freed once nobody holds a handle."""

    _live: ClassVar[WeakValueDictionary[ModelOptions, Engine]] = WeakValueDictionary()
    _lock: ClassVar = threading.Lock()

    def __init__(self, options: ModelOptions) -> None:
        self._worker = _Worker(options)
        finalize(self, self._worker.stop)

    @classmethod
    def shared(cls, options: ModelOptions) -> Engine:
        """The engine for these options: one model is in memory once, however many use it."""
        with cls._lock:
            engine = cls._live.get(options)
            if engine is None:
                engine = cls._live[options] = cls(options)
            return engine

    @classmethod
    def live(cls) -> tuple[ModelOptions, ...]:
        """What is in memory now."""
        return tuple(cls._live)

    def submit(self, job: Job) -> None:
        """Queue a job; the first one loads the model.

        Raises:
            LoadFailed: the model was loaded before this process was forked off.
        """
        self._worker.submit(job)


class _Worker:
    def __init__(self, options: ModelOptions) -> None:
        self._options = options
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._current: Job | None = None
        self._stopping = False
        self._templates: dict[str, ChatTemplate] = {}
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()
        self._process = os.getpid()

    def submit(self, job: Job) -> None:
        if self._process != os.getpid():
            # Threads do not survive a fork: nobody would ever answer.
            raise LoadFailed(
                f"{self._options.path.name!r} was loaded before this process was forked.",
                hint="Make the client after the fork, or start processes by 'spawn'.",
            )
        with self._starting:
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._run, name=f"aideon-{self._options.path.stem}", daemon=True
                )
                _workers.add(self)
                self._thread.start()
        self._jobs.put(job)

    def stop(self) -> None:
        """End after the current token; whoever still waits is told."""
        self._stopping = True
        if (job := self._current) is not None:
            job.cancel()
        self._jobs.put(None)

    def join(self, timeout: float) -> None:
        if self._thread is not None:
            self._thread.join(timeout)

    def _run(self) -> None:
        model: Model | None = None
        while (job := self._jobs.get()) is not None and not self._stopping:
            self._current = job
            try:
                if job.wanted():
                    model = model or self._load()
                    self._answer(model, job)
                job.sink(None if job.wanted() else _stopped())
            except BaseException as error:  # noqa: BLE001 - raised where the caller waits
                job.sink(error)
            self._current = job = None
        if job is not None:
            job.sink(_stopped())
        while not self._jobs.empty():
            if (job := self._jobs.get()) is not None:
                job.sink(_stopped())
        if model is not None:
            model.close()

    def _load(self) -> Model:
        from aideon_core.backends.llama_cpp.model import Model

        return Model(self._options)

    def _template(self, model: Model, override: str | None) -> ChatTemplate:
        from aideon_core.backends.llama_cpp.template import ChatTemplate

        source = override or model.chat_template
        if not source:
            raise NoChatTemplate(
                f"{self._options.path.name!r} carries no chat template, so it is probably a base "
                "model that was not trained to chat.",
                hint="Use an instruct model, or pass chat_template= with a Jinja template.",
            )
        if source not in self._templates:
            self._templates[source] = ChatTemplate(source, bos=model.bos, eos=model.eos)
        return self._templates[source]

    def _answer(self, model: Model, job: Job) -> None:
        from aideon_core.backends.llama_cpp.model import utf8

        request = job.request
        template = self._template(model, job.chat_template)
        tokens = model.tokenize(template.render(request.messages, model.control))
        cached = model.prefill(tokens, job.wanted)
        if not job.wanted():
            return
        room = model.n_ctx - len(tokens)
        limit = min(request.max_tokens or room, room)
        stops, decoder, written = StopFilter(request.stop), utf8(), 0
        finish: FinishReason = "stop"
        for piece in model.generate(request):
            written += 1
            if text := stops.feed(decoder.decode(piece)):
                job.sink(Chunk(text=text))
            if not job.wanted():
                return
            if stops.stopped:
                break
            if written >= limit:
                finish = "length"
                break
        if not stops.stopped and (
            rest := stops.feed(decoder.decode(b"", final=True)) + stops.flush()
        ):
            job.sink(Chunk(text=rest))
        usage = Usage(input_tokens=len(tokens), output_tokens=written, cached_tokens=cached)
        job.sink(Chunk(finish_reason=finish, usage=usage))


def _stopped() -> ServerError:
    return ServerError("The local model was stopped before the answer was whole.")


_workers: WeakSet[_Worker] = WeakSet()
_EXIT_SECONDS = 10.0


@atexit.register
def _stop_all() -> None:
    # llama.cpp crashes when its memory is torn down under a running thread.
    for worker in list(_workers):
        worker.stop()
    for worker in list(_workers):
        worker.join(_EXIT_SECONDS)
