"""The server itself: one event loop, in one thread, on one loopback port."""

from __future__ import annotations

import asyncio
import socket
import threading
from typing import TYPE_CHECKING, Self

from aideon_testing.connection import serve
from aideon_testing.models import DEFAULT_MODELS
from aideon_testing.script import Script
from aideon_testing.service import Service

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from aideon_testing.answers import Answerer
    from aideon_testing.connection import HttpRequest

_HOST = "127.0.0.1"


class LoopbackTogether:
    """A Together API on this machine, for sync and async tests alike.

    ``with LoopbackTogether() as together:`` starts and stops it; nothing it does leaves
    127.0.0.1. The together SDK takes ``base_url`` as it is, OpenAI-style clients take
    ``base_url + "/v1"``.

    Args:
        answers: who answers chat requests once the script is empty, for example GgufAnswers;
            a Script takes the place of the server's own.
        api_key: the only key accepted; ``None`` accepts any that is not empty.
        models: the ids to list and to serve.
        port: 0 takes a free one.

    Attributes:
        script: what to answer next.
    """

    def __init__(
        self,
        answers: Answerer | None = None,
        *,
        api_key: str | None = None,
        models: Sequence[str] = DEFAULT_MODELS,
        port: int = 0,
    ) -> None:
        self.script = answers if isinstance(answers, Script) else Script(otherwise=answers)
        self._service = Service(self.script, models, api_key)
        self._wanted_port = port
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
        if self._running is None:
            raise RuntimeError("The server is not started: use it in a with block.")
        return f"http://{_HOST}:{self._running.port}"

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
            self._running = _Running(self._service, self._wanted_port)

    def stop(self) -> None:
        """Close every connection and wait for the thread; a second stop does nothing."""
        running, self._running = self._running, None
        if running is not None:
            running.stop()


class _Running:
    def __init__(self, service: Service, port: int) -> None:
        self._service = service
        self._connections: set[asyncio.Task[None]] = set()
        # Listening starts here, so clients may connect before the thread has begun to serve.
        self._listener = socket.create_server((_HOST, port), backlog=128)
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
        connection = asyncio.create_task(self._converse(client))
        self._connections.add(connection)
        connection.add_done_callback(self._connections.discard)
        # A task cancelled before its first step cannot close anything itself.
        connection.add_done_callback(lambda _: client.close())

    async def _converse(self, client: socket.socket) -> None:
        reader, writer = await asyncio.open_connection(sock=client)
        await serve(reader, writer, self._service.respond)
