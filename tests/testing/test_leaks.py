"""What a thousand requests leave behind: nothing."""

from __future__ import annotations

import asyncio
import gc
import re
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path

import httpx2
import pytest

from aideon_testing import Failure, LoopbackTogether, Reply, faults

CHAT = "/v1/chat/completions"
HEADERS = {"authorization": "Bearer k"}
FDS = Path("/proc/self/fd")

needs_fds = pytest.mark.skipif(not FDS.exists(), reason="open files are counted in /proc")


def open_files() -> int:
    return len(list(FDS.iterdir()))


def others(threads: set[threading.Thread]) -> set[threading.Thread]:
    """The threads that began since; what earlier tests left may end at any time."""
    return set(threading.enumerate()) - threads


def running_tasks() -> int:
    """The tasks of all loops in this process that are not done."""
    gc.collect()
    tasks = [each for each in gc.get_objects() if isinstance(each, asyncio.Task)]
    return sum(not task.done() for task in tasks)


def settles(count, expected, seconds=10.0) -> bool:
    """Whether a count comes down to what is expected; closing takes the server a moment."""
    until = time.monotonic() + seconds
    while (now := count()) > expected and time.monotonic() < until:
        time.sleep(0.01)
    return now <= expected


def break_things(together: LoopbackTogether) -> None:
    """Some of everything, for a server under load."""
    for seed, fault in enumerate(
        [
            Failure.server_error(),
            Failure.edge(),
            faults.Latency(0.001, jitter=0.002),
            faults.Cut(40),
            faults.Cut(40, reset=True),
            faults.Cut(of="response"),
            faults.CutInside("heard"),
            faults.Malformed(),
            faults.DoneFrames(0),
            faults.ContentLength(9),
            faults.Gzip(),
            faults.Stall(30, seconds=0.002),
        ]
    ):
        together.faults.randomly(0.04, fault, seed=seed)


def one_request(client: httpx2.Client, number: int, body: dict[str, object]) -> None:
    """Ask whole, ask for a stream, or leave a stream half way; what breaks was to break."""
    with suppress(httpx2.HTTPError):
        if number % 3 == 0:
            client.post(CHAT, json=body)
            return
        with client.stream("POST", CHAT, json=body | {"stream": True}) as response:
            lines = response.iter_lines()
            if number % 3 == 1:
                list(lines)
            else:
                next(lines, None)


async def one_async_request(
    client: httpx2.AsyncClient, number: int, body: dict[str, object]
) -> None:
    """The same, asynchronously; one in ten is cancelled."""
    with suppress(httpx2.HTTPError, TimeoutError):
        async with asyncio.timeout(0.002 if number % 10 == 0 else None):
            if number % 3 == 0:
                await client.post(CHAT, json=body)
                return
            async with client.stream("POST", CHAT, json=body | {"stream": True}) as response:
                async for _ in response.aiter_lines():
                    if number % 3 == 2:
                        break


@needs_fds
@pytest.mark.slow
def test_a_thousand_requests_leave_nothing_behind(chat_body):
    """Threads, loops, streams left half way, faults: no socket, thread or task remains."""
    with LoopbackTogether() as together:  # what is imported on first use is open by then
        httpx2.get(f"{together.base_url}/v1/models", headers=HEADERS)
    before = open_files(), set(threading.enumerate()), running_tasks()
    with LoopbackTogether() as together:
        started = open_files(), set(threading.enumerate())
        tasks = running_tasks()
        break_things(together)
        with (
            httpx2.Client(base_url=together.base_url, headers=HEADERS) as client,
            ThreadPoolExecutor(8) as pool,
        ):
            list(pool.map(lambda number: one_request(client, number, chat_body), range(500)))

        async def many() -> None:
            async with httpx2.AsyncClient(base_url=together.base_url, headers=HEADERS) as client:
                await asyncio.gather(
                    *(one_async_request(client, number, chat_body) for number in range(500))
                )

        asyncio.run(many())
        assert len(together.requests) > 900
        # While it still runs: every connection's end has been noticed.
        assert settles(open_files, started[0])
        assert settles(running_tasks, tasks)
        assert not others(started[1])
    assert settles(open_files, before[0])
    assert not others(before[1])
    assert running_tasks() == before[2]


@needs_fds
def test_a_client_that_goes_ends_what_is_done_for_it(together, chat_body):
    """Stalled answers, slow ones and drips end when nobody waits for them any more."""
    files, tasks = open_files(), running_tasks()
    together.faults.sequence(faults.Stall(of="response"), faults.Stall(20), faults.Drip(5))
    together.script.say("stalled", "stalled", "dripped")
    together.script.reply(Reply("late", delay=600))
    for _ in range(4):
        with pytest.raises(httpx2.TimeoutException):
            httpx2.post(together.base_url + CHAT, json=chat_body, headers=HEADERS, timeout=0.1)
    assert settles(open_files, files)
    assert settles(running_tasks, tasks)


@needs_fds
@pytest.mark.parametrize("streams", [1, 30])
def test_a_server_can_stop_in_the_middle_of_streams(chat_body, streams):
    """stop() ends running streams at once; clients see them break, nothing stays open."""
    before = open_files(), set(threading.enumerate())
    with ExitStack() as stack:
        together = stack.enter_context(LoopbackTogether())
        together.faults.always(faults.Stall(400))
        limits = httpx2.Limits(max_connections=streams)
        client = stack.enter_context(
            httpx2.Client(base_url=together.base_url, headers=HEADERS, limits=limits)
        )
        body = chat_body | {"stream": True}
        opened = [
            stack.enter_context(client.stream("POST", CHAT, json=body)) for _ in range(streams)
        ]
        lines = [response.iter_lines() for response in opened]
        assert all(next(each).startswith("data: ") for each in lines)
        start = time.monotonic()
        together.stop()
        assert time.monotonic() - start < 5
        for each in lines:
            with pytest.raises((httpx2.RemoteProtocolError, httpx2.ReadError)):
                list(each)
    assert settles(open_files, before[0])
    assert not others(before[1])


@needs_fds
def test_many_servers_live_side_by_side(chat_body):
    """Each server has its own port, script and requests, and takes all of it along."""
    before = open_files(), set(threading.enumerate())
    with ExitStack() as stack:
        servers = [stack.enter_context(LoopbackTogether()) for _ in range(20)]
        assert len({server.base_url for server in servers}) == 20
        for number, server in enumerate(servers):
            server.script.say(f"server {number}")
        answers = [
            httpx2.post(server.base_url + CHAT, json=chat_body, headers=HEADERS).json()
            for server in servers
        ]
        texts = [answer["choices"][0]["message"]["content"] for answer in answers]
        assert texts == [f"server {number}" for number in range(20)]
    assert settles(open_files, before[0])
    assert not others(before[1])


@needs_fds
def test_an_outage_leaves_nothing_behind(together, chat_body):
    """Going away and coming back ten times opens nothing that stays."""
    before = open_files(), threading.active_count()
    for _ in range(10):
        with together.outage():
            pass
        assert httpx2.post(together.base_url + CHAT, json=chat_body, headers=HEADERS).is_success
    assert settles(open_files, before[0])
    assert settles(threading.active_count, before[1])


@pytest.mark.parametrize(
    "hostile",
    [
        b"\x00\xff" * 5000,
        b"GET / HTTP/1.1\r\n" + b"a: " + b"b" * 200_000,
        b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: -5\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nZZ\r\n",
        b"GET / HTTP/1.1\r\nhost: x\r\nhost: y\r\nhost: z\r\ncontent-length: 1, 2\r\n\r\n",
        b"GET /\xe9\xff?\x80 HTTP/9.9\r\n\r\n",
        b"CONNECT x:1 HTTP/1.1\r\nhost: x\r\n\r\n",
        b"[" * 100_000,
    ],
)
def test_a_hostile_client_hurts_nobody_else(together, client, chat_body, caplog, hostile):
    """Garbage costs its sender the connection and others nothing; nothing is logged as a bug."""
    port = httpx2.URL(together.base_url).port
    with (
        socket.create_connection(("127.0.0.1", port), timeout=10) as raw,
        suppress(OSError),  # the server may have closed already
    ):
        raw.sendall(hostile)
        raw.shutdown(socket.SHUT_WR)
        while raw.recv(65536):
            pass
    assert client.post(CHAT, json=chat_body).is_success
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


def test_json_too_deep_to_read_is_no_json(client):
    """A body of a hundred thousand brackets is a bad request like any other."""
    assert client.post(CHAT, content=b"[" * 100_000).status_code == 400


def test_clients_that_send_slowly_hold_up_nobody(together, client, chat_body):
    """A hundred connections that never finish their headers take nobody's turn."""
    port = httpx2.URL(together.base_url).port
    with ExitStack() as stack:
        for _ in range(100):
            raw = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
            raw.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nx-slow: ")
        start = time.monotonic()
        assert client.post(CHAT, json=chat_body).is_success
        assert time.monotonic() - start < 5


def test_requests_may_be_sent_without_waiting_for_answers(together):
    """Pipelined requests are answered one after the other, in their order."""
    port = httpx2.URL(together.base_url).port
    request = b"GET /v1/models HTTP/1.1\r\nhost: x\r\nauthorization: Bearer k%d\r\n"
    together.keys.revoke("k1")
    sent = b"".join(request % number + b"\r\n" for number in range(3))
    sent += request % 3 + b"connection: close\r\n\r\n"
    with socket.create_connection(("127.0.0.1", port), timeout=10) as raw:
        raw.sendall(sent)
        received = b"".join(iter(lambda: raw.recv(65536), b""))
    statuses = re.findall(rb"HTTP/1.1 (\d+) ", received)
    assert statuses == [b"200", b"401", b"200", b"200"]


@pytest.mark.parametrize("method", ["HEAD", "OPTIONS", "DELETE", "BREW"])
def test_any_method_gets_an_answer_and_keeps_the_connection(together, client, method):
    """What is not served is refused in HTTP, without breaking the connection."""
    for _ in range(2):
        assert client.request(method, CHAT).status_code == 405
    assert client.get("/v1/models").is_success


def test_an_answer_of_many_megabytes_arrives_whole(together, client, chat_body):
    """Big answers are sent as fast as they are read, streamed or not."""
    text = "x" * 10_000_000
    together.script.say(text, text)
    whole = client.post(CHAT, json=chat_body, timeout=30).json()
    assert whole["choices"][0]["message"]["content"] == text
    streamed = client.post(CHAT, json=chat_body | {"stream": True}, timeout=30)
    assert len(streamed.content) > 10_000_000
    assert streamed.content.endswith(b"data: [DONE]\n\n")


class Misbehaving:
    """What stands before the endpoints and gives what HTTP cannot say."""

    async def intercept(self, request, stamp, proceed):
        response = await proceed(request, stamp)
        if request.method == "POST":
            return response.with_headers({"x-bad": "line\r\nend"})

        async def body():
            yield b"["
            raise RuntimeError("a bug")

        return replace(response.with_headers({"content-length": None}), body=body())


def test_a_bug_in_an_answer_breaks_that_answer_only(chat_body, caplog):
    """What cannot be sent ends its connection and is logged; the server goes on."""
    with LoopbackTogether(Misbehaving()) as together:
        for _ in range(2):
            with pytest.raises(httpx2.RemoteProtocolError):
                httpx2.post(together.base_url + CHAT, json=chat_body, headers=HEADERS)
            with pytest.raises(httpx2.RemoteProtocolError):
                httpx2.get(f"{together.base_url}/v1/models", headers=HEADERS)
    assert len(caplog.records) == 4
    assert {record.message for record in caplog.records} == {
        "A response failed while it was being sent"
    }
