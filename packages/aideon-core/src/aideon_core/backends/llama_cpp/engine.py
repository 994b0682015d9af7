"""One worker thread owns one model; requests wait in a queue for it."""

from __future__ import annotations

import os
import threading
import time
from contextlib import closing, suppress
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING
from weakref import finalize

from aideon_core.backends.llama_cpp.owners import Shared, end_at_exit
from aideon_core.backends.llama_cpp.residents import Residents
from aideon_core.errors import LoadFailed, QueueFull, ServerError
from aideon_core.forks import forget_with

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aideon_core.backends.llama_cpp.job import Job
    from aideon_core.backends.llama_cpp.options import ModelOptions
    from aideon_core.backends.llama_cpp.scheduler import Scheduler


class Engine:
    """A handle on a worker; the model is freed once nobody holds a handle."""

    def __init__(self, options: ModelOptions) -> None:
        self._worker = _Worker(options)
        finalize(self, self._worker.stop)

    @classmethod
    def shared(cls, options: ModelOptions) -> Engine:
        """The engine for these options: one model is in memory once, however many use it."""
        return _engines.of(options)

    @classmethod
    def live(cls) -> tuple[ModelOptions, ...]:
        """What is in memory now."""
        return _engines.live()

    def submit(self, job: Job) -> None:
        """Queue a job; the first one loads the model.

        Raises:
            LoadFailed: the model was loaded before this process was forked off.
            QueueFull: as many requests as may wait do so already, or so many that this one's
                deadline would be over before its turn.
        """
        self._worker.submit(job)


class _Worker:
    def __init__(self, options: ModelOptions) -> None:
        self._options = options
        self._thread: threading.Thread | None = None
        # A finalizer may call ``stop`` at any moment of any thread, so it takes no lock: putting
        # into this queue takes none.
        self._come: SimpleQueue[Job | None] = SimpleQueue()
        self._got: list[Job | None] = []
        self._lock = threading.Lock()
        self._open: list[Job] = []
        self._stopping = self._leaving = False
        self.idle_since: float | None = None
        self._seconds_each = 0.0
        # How many are answered at once; the model tells once it is loaded.
        self._seats = options.parallel or 1
        self._process = os.getpid()

    def submit(self, job: Job) -> None:
        if self._process != os.getpid():
            # Threads do not survive a fork: nobody would ever answer.
            raise LoadFailed(
                f"{self._options.path.name!r} was loaded before this process was forked.",
                hint="Make the client after the fork, or start processes by 'spawn'.",
            )
        with self._lock:
            self._refuse(job)
            self._open.append(job)
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._run, name=f"aideon-{self._options.path.stem}", daemon=True
                )
                end_at_exit(self)
                self._thread.start()
        self._come.put(job)

    def _refuse(self, job: Job) -> None:
        """Send a job away whose turn would come too late.

        Raises:
            QueueFull: it would.
            ServerError: the process ends.
        """
        if self._stopping:
            raise _stopped()
        # Nobody waits while a sequence is free.
        before = max(0, sum(each.wanted() for each in self._open) + 1 - self._seats)
        most, deadline = self._options.max_queue, job.request.deadline
        if most is not None and before > most:
            raise QueueFull(
                f"{before} requests wait for {self._options.path.name!r}, and {most} may.",
                hint="Ask later, raise max_queue, or allow a cloud side.",
            )
        wait = self._seconds_each * before
        if deadline is not None and wait > deadline:
            raise QueueFull(
                f"{before} requests wait for {self._options.path.name!r}, for about {wait:.1f} s, "
                f"and the deadline is in {deadline:g} s.",
                hint="Ask later, raise deadline=, or allow a cloud side.",
            )

    def stop(self) -> None:
        """End after the current token; whoever still waits is told."""
        self._stopping = True
        self._come.put(None)

    def leave(self) -> None:
        """Unload the model, unless there is something to do; the next request loads it again."""
        self._leaving = True
        self._come.put(None)

    def join(self, timeout: float) -> None:
        if self._thread is not None:
            self._thread.join(timeout)

    def _run(self) -> None:
        while not self._stopping:
            if not self._wait(None):
                continue
            try:
                self._serve()
            except BaseException as error:  # noqa: BLE001 - raised where the callers wait
                self._end_all(error)
            finally:
                _residents.left(self)
        self._end_all(_stopped())

    def _wait(self, seconds: float | None) -> bool:
        """Wait for a job; tells whether one came, and not the end, nor nothing for so long."""
        self.idle_since = time.monotonic()
        # Whoever could not be served was told so.
        self._got = [job for job in self._got if job is not None and job.wanted()]
        with suppress(Empty):
            while not (self._stopping or self._leaving or any(self._got)):
                self._got.append(self._come.get(timeout=seconds))
        self._leaving, self.idle_since = False, None
        return any(self._got) and not self._stopping

    def _end_all(self, error: BaseException) -> None:
        with self._lock:
            left, self._open = self._open, []
        for job in left:
            job.end(error)

    def _serve(self) -> None:
        """Load the model, and answer until it is stopped or has been idle for too long."""
        from aideon_core.backends.llama_cpp.model import Model
        from aideon_core.backends.llama_cpp.scheduler import Scheduler

        options = self._options
        try:
            size = options.path.stat().st_size
        except OSError as error:
            raise LoadFailed(
                f"{str(options.path)!r} cannot be read: {error.strerror}.",
                hint="Fetch the model again, or look whether the file was moved.",
            ) from error
        _residents.enter(self, size, options.memory_limit)
        with (
            closing(Model(options)) as model,
            closing(Scheduler(model, options)) as scheduler,
        ):
            self._seats = scheduler.seats
            while self._hand_over(scheduler):
                scheduler.step()

    def _hand_over(self, scheduler: Scheduler) -> bool:
        """Give the scheduler what has come; tells whether the model is to stay in memory."""
        with self._lock:
            ended = [job for job in self._open if not job.wanted()]
            self._open = [job for job in self._open if job.wanted()]
        self._learn(ended)
        del ended
        if not scheduler.is_busy and not self._wait(self._options.idle_seconds):
            return False
        with suppress(Empty):
            while True:
                self._got.append(self._come.get_nowait())
        come, self._got = self._got, []
        for job in come:
            if job is not None and job.wanted():
                scheduler.add(job)
        return not self._stopping

    def _learn(self, ended: Sequence[Job]) -> None:
        """Keep in mind how long an answer takes the model, the last ones above all."""
        now = time.monotonic()
        for job in ended:
            if job.began_at is not None:
                share = (now - job.began_at) / max(1, job.beside)
                self._seconds_each += (share - self._seconds_each) * _LEARNS


def _stopped() -> ServerError:
    return ServerError("The local model was stopped before the answer was whole.")


# The weight of the newest answer in what is expected of the next.
_LEARNS = 0.3
_residents = Residents()
forget_with(_residents)
_engines: Shared[ModelOptions, Engine] = Shared(Engine, lambda options: options.n_gpu_layers != 0)
