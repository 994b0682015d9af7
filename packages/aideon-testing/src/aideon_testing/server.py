"""The server itself: one event loop, in one thread, on one loopback port."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from contextlib import ExitStack, contextmanager
from types import MappingProxyType
from typing import TYPE_CHECKING, Self

from aideon_testing.connection import serve
from aideon_testing.interception import Intercepts, passed_on
from aideon_testing.keys import Keys
from aideon_testing.limits import UNLIMITED
from aideon_testing.models import DEFAULT_MODELS
from aideon_testing.script import Script
from aideon_testing.service import Service

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from types import TracebackType

    from aideon_testing.answers import Answerer
    from aideon_testing.connection import HttpRequest
    from aideon_testing.dialects import Dialect
    from aideon_testing.injection import Faults
    from aideon_testing.limits import RateLimits

_HOST = "127.0.0.1"
# Clients that connect while an answerer is busy wait, and are not turned away.
_BACKLOG = socket.SOMAXCONN
_ANY_KEY = "loopback"


class LoopbackTogether:
    """A Together API on this machine, for sync and async tests alike.

    ``with LoopbackTogether() as together:`` starts and stops it; nothing it does leaves
    127.0.0.1. The together SDK takes ``base_url`` as it is, OpenAI-style clients take
    ``base_url + "/v1"``.

    Args:
        answers: who answers chat requests once the script is empty, for example GgufAnswers;
            a Script takes the place of the server's own; Recordings answer every request, with
            no key asked for unless ``api_key`` says so.
        api_key: the only key accepted, or several; ``None`` accepts any that is not empty.
        models: the ids to list and to serve.
        limits: what each key may use.
        dialects: how models speak, by id, that are not to speak as they were last recorded.
        port: 0 takes a free one.

    Attributes:
        script: what to answer next.
        api_key: a key that is accepted at first.
    """

    def __init__(
        self,
        answers: Answerer | Intercepts | None = None,
        *,
        api_key: str | Iterable[str] | None = None,
        models: Sequence[str] = DEFAULT_MODELS,
        limits: RateLimits = UNLIMITED,
        dialects: Mapping[str, Dialect] = MappingProxyType({}),
        port: int = 0,
    ) -> None:
        accepted = (api_key,) if isinstance(api_key, str) else tuple(api_key or ())
        self.api_key = accepted[0] if accepted else _ANY_KEY
        around = passed_on
        if isinstance(answers, Intercepts):
            around, answers = answers.intercept, None
        any_key = api_key is None
        keys = Keys(None if any_key else accepted, asked=around is passed_on or not any_key)
        self.script = answers if isinstance(answers, Script) else Script(otherwise=answers)
        self._service = Service(
            self.script, models, keys, limits=limits, dialects=dialects, around=around
        )
        self._wanted_port = port
        self._port: int | None = None
        self._running: _Running | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def base_url(self) -> str:
        """Where it listens, without ``/v1``.

        Raises:
            RuntimeError: the server is not started.
        """
        if self._port is None:
            raise RuntimeError("The server is not started: use it in a with block.")
        return f"http://{_HOST}:{self._port}"

    @property
    def faults(self) -> Faults:
        """What goes wrong on purpose."""
        return self._service.faults

    @property
    def keys(self) -> Keys:
        """The API keys accepted."""
        return self._service.keys

    @property
    def limits(self) -> RateLimits:
        """What each key may use; setting it lets all keys start anew."""
        return self._service.limiter.limits

    @limits.setter
    def limits(self, limits: RateLimits) -> None:
        self._service.limiter.limits = limits

    @property
    def requests(self) -> list[HttpRequest]:
        """Every request that came, refused ones included, in order of arrival."""
        return self._service.requests

    def start(self) -> None:
        """Listen and answer until ``stop``; a second start does nothing.

        Raises:
            OSError: the port is taken.
        """
        if self._running is None:
            self._serve(socket.create_server((_HOST, self._wanted_port), backlog=_BACKLOG))

    def stop(self) -> None:
        """Close every connection and wait for the thread; a second stop does nothing."""
        self._port = None
        running, self._running = self._running, None
        if running is not None:
            running.stop()

    def _serve(self, listener: socket.socket) -> None:
        self._running = _Running(self._service, listener)
        self._port = self._running.port

    @contextmanager
    def outage(self) -> Iterator[None]:
        """Be away for a block: connections break, new ones are refused; the port stays.

        Raises:
            RuntimeError: the server is not started.
        """
        port = int(self.base_url.rpartition(":")[2])
        self.stop()
        self._port = port
        with ExitStack() as stack:
            # Bound and not listening: the port is refused to clients and to others.
            bound = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM))
            if os.name == "posix":  # elsewhere this option lets others take the port
                bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.bind((_HOST, port))
            try:
                yield
            finally:
                stack.pop_all()
                bound.listen(_BACKLOG)
                self._serve(bound)


class _Running:
    def __init__(self, service: Service, listener: socket.socket) -> None:
        self._service = service
        self._connections: set[asyncio.Task[None]] = set()
        # It listens already, so clients may connect before the thread has begun to serve.
        self._listener = listener
        self._listener.settimeout(0)
        self.port: int = self._listener.getsockname()[1]
        # The one kind of loop that has add_reader on every platform.
        self._loop = asyncio.SelectorEventLoop()
        self._stopping = asyncio.Event()
        self._thread = threading.Thread(
            target=self._run, name=f"loopback-together-{self.port}", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join()

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        # asyncio.start_server loses connections that arrive while it closes; this cannot.
        self._loop.add_reader(self._listener, self._accept)
        await self._stopping.wait()
        self._loop.remove_reader(self._listener)
        self._listener.close()
        for connection in self._connections:
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    def _accept(self) -> None:
        try:
            client, _ = self._listener.accept()
        except OSError:
            return  # the client is gone already
        client.settimeout(0)
        # Without it every frame waits for the client's acknowledgement of the one before.
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection = asyncio.create_task(serve(client, self._service.respond))
        self._connections.add(connection)
        connection.add_done_callback(self._connections.discard)
        # A task cancelled before its first step cannot close anything itself.
        connection.add_done_callback(lambda _: client.close())
