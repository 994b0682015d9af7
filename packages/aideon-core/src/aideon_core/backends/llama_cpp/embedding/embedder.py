"""A GGUF model that embeds: one thread owns it, and texts wait for that thread."""

from __future__ import annotations

import asyncio
import os
import threading
from concurrent.futures import Future
from decimal import Decimal
from importlib.util import find_spec
from queue import SimpleQueue
from typing import TYPE_CHECKING, Final, Literal, TypeAlias
from weakref import finalize

from aideon_core.backends.llama_cpp import files
from aideon_core.backends.llama_cpp.options import ModelOptions
from aideon_core.backends.llama_cpp.owners import Shared, end_at_exit
from aideon_core.deadline import Deadline
from aideon_core.embeddings import Embeddings
from aideon_core.errors import AideonError, ConfigError, LoadFailed, MissingDependency, ServerError
from aideon_core.types import Usage

if TYPE_CHECKING:
    from collections.abc import Callable
    from os import PathLike
    from pathlib import Path

    from aideon_core.backends.llama_cpp.embedding.encoder import Encoder
    from aideon_core.embeddings import EmbeddingRequest
    from aideon_core.types import Side

_Key: TypeAlias = tuple[ModelOptions, int | None, Literal["mean", "cls", "last"] | None]
_POOLINGS: Final = (None, "mean", "cls", "last")


class LlamaCppEmbedder:
    """Embeds with a GGUF model in this process; nothing leaves the machine.

    The model is loaded by the first text, and shared by every embedder in the process with
    the same options. May be used by many threads; the texts of one call are computed together.

    Args:
        model: the path of a ``.gguf`` file of an embedding model.
        n_ctx: how many tokens of a text are read at most; as many as the model was trained
            for when not given.
        n_threads: threads to compute with; the machine's cores when not given.
        n_gpu_layers: layers to put on the GPU, -1 for all.
        pooling: how the vectors of tokens become one; as the file says when not given.
        parallel: how many texts are computed side by side; when not given one on a CPU, which
            is as fast so and makes a vector depend on its text alone, and 64 on a GPU.

    Raises:
        UnknownModel: there is no such file.
        NotGguf: the file is something else.
        ConfigError: ``n_ctx`` or ``parallel`` is no number above 0, or there is no such pooling.
    """

    name: str = "local"
    side: Side = "local"

    def __init__(
        self,
        model: str | PathLike[str],
        *,
        n_ctx: int | None = None,
        n_threads: int | None = None,
        n_gpu_layers: int = 0,
        pooling: Literal["mean", "cls", "last"] | None = None,
        parallel: int | None = None,
    ) -> None:
        _check_number("n_ctx", n_ctx)
        _check_number("parallel", parallel)
        if pooling not in _POOLINGS:
            raise ConfigError(f"There is no pooling {pooling!r}.", hint="mean, cls or last.")
        path = files.gguf(os.fspath(model), hint="Give the .gguf file of an embedding model.")
        self.model = path.name
        weights = ModelOptions(
            path, n_threads=n_threads, n_gpu_layers=n_gpu_layers, parallel=parallel
        )
        self._key: _Key = (weights, n_ctx, pooling)
        self._worker: _Worker | None = None

    @property
    def path(self) -> Path:
        """Where the model's file is."""
        return self._key[0].path

    def __repr__(self) -> str:
        return f"LlamaCppEmbedder({self.model!r})"

    def unavailable(self) -> AideonError | None:
        """MissingDependency without llama-cpp-python."""
        if self._worker is None and find_spec("llama_cpp") is None:
            return MissingDependency(
                "llama-cpp-python is not installed, so no model can run here.",
                hint="pip install 'aideon-core[local]'",
                backend=self.name,
                model=self.model,
            )
        return None

    def embed(self, request: EmbeddingRequest) -> Embeddings:
        """Embed texts, when the model gets to them."""
        deadline = Deadline(request.deadline)
        job = self._job(request)
        try:
            return job.result.result(deadline.left())
        except TimeoutError:
            raise self._named(deadline.passed()) from None
        except AideonError as error:
            raise self._named(error) from None
        finally:
            job.abandon()

    async def aembed(self, request: EmbeddingRequest) -> Embeddings:
        """Embed texts without blocking the event loop; see ``embed``."""
        deadline = Deadline(request.deadline)
        job = self._job(request)
        try:
            async with deadline.enforced():
                return await asyncio.wrap_future(job.result)
        except AideonError as error:
            raise self._named(error) from None
        finally:
            job.abandon()

    def close(self) -> None:
        """Give the model up; it is freed once no other embedder uses it."""
        self._worker = None

    async def aclose(self) -> None:
        """Give the model up; it is freed once no other embedder uses it."""
        self.close()

    def _job(self, request: EmbeddingRequest) -> _Job:
        if (reason := self.unavailable()) is not None:
            raise reason
        self._worker = worker = self._worker or _Worker.shared(self._key)
        return _Job(worker, request, self.model)

    def _named(self, error: AideonError) -> AideonError:
        error.backend, error.model = self.name, self.model
        return error


class _Job:
    """Texts on their way to the worker, which is kept alive until they are embedded."""

    def __init__(self, worker: _Worker, request: EmbeddingRequest, model: str) -> None:
        self._request = request
        self._model = model
        self._worker = worker
        self._abandoned = False
        self.result: Future[Embeddings] = Future()
        worker.submit(self)

    def abandon(self) -> None:
        """Stop before the next text, if it is still under way; nobody waits any more."""
        self._abandoned = True
        self.result.cancel()

    def run(self, encoder: Encoder, go_on: Callable[[], bool]) -> None:
        """Embed the texts and hand over the vectors, or the error."""
        try:
            found = self._embedded(encoder, lambda: go_on() and not self._abandoned)
        except BaseException as error:  # noqa: BLE001 - raised where the caller waits
            self.result.set_exception(error)
        else:
            self.result.set_result(found)

    def _embedded(self, encoder: Encoder, go_on: Callable[[], bool]) -> Embeddings:
        vectors, tokens = encoder.embed(self._request, go_on)
        if len(vectors) < len(self._request.texts):
            raise ServerError("The local model was stopped before all texts were embedded.")
        return Embeddings(
            tuple(vectors), model=self._model, usage=Usage(tokens, 0), cost=Decimal(0)
        )


class _Worker:
    """A handle on a thread and the model it owns, which goes when nobody holds the handle."""

    def __init__(self, key: _Key) -> None:
        self._process = os.getpid()
        self._file = key[0].path.name
        self._thread = _Thread(key)
        # Whatever runs here may run in the middle of anything, and must not take a lock.
        finalize(self, self._thread.stop)
        self._thread.start()

    @classmethod
    def shared(cls, key: _Key) -> _Worker:
        """The worker for these options: one model is in memory once, however many use it."""
        return _workers.of(key)

    @classmethod
    def live(cls) -> tuple[_Key, ...]:
        """What is in memory now."""
        return _workers.live()

    def submit(self, job: _Job) -> None:
        """Queue a job; the first loads the model.

        Raises:
            LoadFailed: the worker was made before this process was forked off.
        """
        if self._process != os.getpid():
            # Threads do not survive a fork: nobody would ever answer.
            raise LoadFailed(
                f"{self._file!r} was loaded before this process was forked.",
                hint="Make the client after the fork, or start processes by 'spawn'.",
            )
        self._thread.jobs.put(job)


class _Thread(threading.Thread):
    """Loads a model and does one job after the other with it."""

    def __init__(self, key: _Key) -> None:
        super().__init__(name=f"aideon-{key[0].path.stem}", daemon=True)
        self.jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._key = key
        self._stopping = False
        end_at_exit(self)

    def stop(self) -> None:
        """End after the text under way; takes no lock."""
        self._stopping = True
        self.jobs.put(None)

    def run(self) -> None:
        """Work until told to stop."""
        encoder: Encoder | None = None
        while (job := self.jobs.get()) is not None:
            if job.result.set_running_or_notify_cancel():
                try:
                    encoder = encoder or self._load()
                except BaseException as error:  # noqa: BLE001 - raised where the caller waits
                    job.result.set_exception(error)
                else:
                    job.run(encoder, lambda: not self._stopping)
            # It may be the last to hold the worker, and the worker's end is the thread's.
            del job
        if encoder is not None:
            encoder.close()

    def _load(self) -> Encoder:
        from aideon_core.backends.llama_cpp.embedding.encoder import Encoder, EncoderOptions

        return Encoder(EncoderOptions(*self._key))


_workers: Shared[_Key, _Worker] = Shared(_Worker, lambda key: key[0].n_gpu_layers != 0)


def _check_number(name: str, value: object) -> None:
    if value is not None and not (isinstance(value, int) and value > 0):
        raise ConfigError(f"{name} is {value!r} and has to be a number above 0.")
