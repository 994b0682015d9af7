"""The server as a process citizen: connections, threads, fixtures, the command line."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import httpx2
import pytest
from together import Together

from aideon_testing import Failure, LoopbackTogether, Match, Reply, engines

if TYPE_CHECKING:
    from collections.abc import Iterator

CHAT = "/v1/chat/completions"
HEADERS = {"authorization": "Bearer k"}


def test_fifty_clients_at_once_each_get_their_own_answer(together, chat_body):
    """Concurrent requests never see each other's answers."""
    with (
        httpx2.Client(base_url=together.base_url, headers=HEADERS) as client,
        ThreadPoolExecutor(50) as pool,
    ):

        def ask(number: int) -> str:
            messages = [{"role": "user", "content": f"number {number}"}]
            answer = client.post(CHAT, json=chat_body | {"messages": messages}).json()
            return answer["choices"][0]["message"]["content"]

        answers = list(pool.map(ask, range(50)))
    assert answers == [f"The loopback server heard: number {number}" for number in range(50)]
    assert len({request.content for request in together.requests}) == 50


async def test_async_clients_are_served_while_their_loop_runs(together, chat_body):
    """The server has a loop of its own, so async tests need nothing special."""
    async with httpx2.AsyncClient(base_url=together.base_url, headers=HEADERS) as client:
        responses = await asyncio.gather(*(client.post(CHAT, json=chat_body) for _ in range(50)))
    assert {response.status_code for response in responses} == {200}


def test_a_slow_answer_holds_up_no_other(together, chat_body):
    """One delayed answer leaves the other connections their pace."""
    together.script.reply(Reply("late", delay=60))
    with ThreadPoolExecutor(1) as pool:
        late = pool.submit(httpx2.post, together.base_url + CHAT, json=chat_body, headers=HEADERS)
        while together.script and not late.done():
            pass
        assert httpx2.post(together.base_url + CHAT, json=chat_body, headers=HEADERS).is_success
        together.stop()
        assert isinstance(late.exception(), httpx2.RemoteProtocolError | httpx2.ReadError)


def test_a_kept_alive_connection_serves_many_requests(together, chat_body):
    """Clients that pool connections reuse them, streams included."""
    with socket.create_connection(("127.0.0.1", httpx2.URL(together.base_url).port)) as raw:
        stream = raw.makefile("rb")
        for _ in range(3):
            raw.sendall(b"GET /v1/models HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer k\r\n\r\n")
            assert stream.readline() == b"HTTP/1.1 200 \r\n"
            while (line := stream.readline()) != b"\r\n":
                if line.startswith(b"content-length"):
                    length = int(line.split(b":")[1])
            assert len(stream.read(length)) == length
        stream.close()


def test_large_requests_are_read_whole(together, client, chat_body):
    """A prompt of several megabytes, such as one with images, arrives unharmed."""
    content = [{"type": "text", "text": "x" * 4_000_000}]
    messages = [{"role": "user", "content": content}]
    assert client.post(CHAT, json=chat_body | {"messages": messages}).is_success
    assert together.requests[0].body["messages"] == messages


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"\x16\x03\x01 nonsense\r\n\r\n", 400),
        (b"POST /v1/files HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nA: " + b"a" * 1_000_000, 431),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", 501),
    ],
    ids=["nonsense", "length", "chunk", "large", "encoding"],
)
def test_bytes_that_are_no_http_are_answered_and_end_the_connection(
    together, client, chat_body, sent, status
):
    """What cannot be read gets HTTP's own error, with the reason, and harms no other."""
    port = httpx2.URL(together.base_url).port
    with socket.create_connection(("127.0.0.1", port), timeout=10) as raw:
        raw.sendall(sent)
        answer = b""
        while part := raw.recv(1024):
            answer += part
    assert answer.startswith(f"HTTP/1.1 {status} ".encode())
    assert b"connection: close\r\n" in answer.lower()
    assert b"This is no HTTP request: " in answer
    assert client.post(CHAT, json=chat_body).is_success
    assert len(together.requests) == 1


def test_a_client_that_goes_away_in_its_request_harms_nobody(together, client, chat_body, caplog):
    """A request that never ends is dropped without a word."""
    port = httpx2.URL(together.base_url).port
    for sent in (b"POST / HT", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nx"):
        with socket.create_connection(("127.0.0.1", port), timeout=10) as raw:
            raw.sendall(sent)
            raw.shutdown(socket.SHUT_WR)
            assert raw.recv(1024) == b""
    assert client.post(CHAT, json=chat_body).is_success
    assert not caplog.records


def test_more_clients_than_usual_can_wait_at_once(together):
    """Hundreds of connections are taken in while an answerer keeps the server busy."""
    busy, go_on = threading.Event(), threading.Event()

    def hold(_: object) -> bool:
        busy.set()
        return go_on.wait(10)

    together.faults.next(Failure.server_error(), on=Match(where=hold))
    address = ("127.0.0.1", httpx2.URL(together.base_url).port)
    with ThreadPoolExecutor(1) as pool, ExitStack() as stack:
        first = pool.submit(httpx2.get, f"{together.base_url}/v1/models", timeout=20)
        assert busy.wait(10)
        for _ in range(min(300, socket.SOMAXCONN)):
            # One that finds no room waits for a second try, which this timeout forbids.
            stack.enter_context(socket.create_connection(address, timeout=0.5))
        go_on.set()
        assert first.result().status_code == 500


def test_head_is_answered_as_get_without_the_body(together, client, chat_body):
    """HEAD tells the headers of GET, its length among them; where no GET is, it is a 405."""
    got, headed = client.get("/v1/models"), client.head("/v1/models")
    assert headed.status_code == got.status_code == 200
    assert headed.content == b""
    for name in ("content-type", "content-length", "etag"):
        assert headed.headers[name] == got.headers[name]
    assert client.head(CHAT).status_code == 405
    assert client.post(CHAT, json=chat_body).is_success


def test_a_server_can_be_stopped_twice_and_started_again():
    """Starting and stopping may be called in any order, any number of times."""
    server = LoopbackTogether()
    server.stop()
    with pytest.raises(RuntimeError, match="not started"):
        _ = server.base_url
    for _ in range(2):
        server.start()
        server.start()
        assert httpx2.get(f"{server.base_url}/v1/models", headers=HEADERS).is_success
        server.stop()
        server.stop()


def test_a_model_can_be_given_another_dialect(chat_body):
    """dialects= makes a model speak as another engine does."""
    model = chat_body["model"]
    contents = []
    for dialects in ({}, {model: engines.QWEN3_INLINE}):
        with LoopbackTogether(dialects=dialects) as together:
            together.script.reply(Reply("answer", reasoning="thought"))
            url = together.base_url + CHAT
            answer = httpx2.post(url, json=chat_body, headers=HEADERS).json()
            contents.append(answer["choices"][0]["message"]["content"])
    assert contents[0] == "answer"
    assert contents[1].startswith("<think>")


def test_a_taken_port_is_an_error_at_once():
    """Asking for a port in use fails at start, with the system's own message."""
    with LoopbackTogether() as server:
        port = httpx2.URL(server.base_url).port
        with pytest.raises(OSError, match="in use"), LoopbackTogether(port=port):
            pass


def test_together_env_points_the_environment_at_the_server(together_env):
    """One fixture is all that code under test needs to find the server."""
    assert os.environ["TOGETHER_BASE_URL"] == together_env.base_url
    assert os.environ["TOGETHER_API_BASE"] == f"{together_env.base_url}/v1"
    assert os.environ["TOGETHER_AI_API_BASE"] == f"{together_env.base_url}/v1"
    headers = {"authorization": f"Bearer {os.environ['TOGETHER_API_KEY']}"}
    assert httpx2.get(f"{together_env.base_url}/v1/models", headers=headers).is_success


@pytest.fixture
def surroundings(monkeypatch):
    """A developer's own environment."""
    monkeypatch.setenv("TOGETHER_PROJECT_ID", "proj_real")
    monkeypatch.setenv("TOGETHER_CUSTOM_HEADERS", "X-Real: yes")


@pytest.mark.usefixtures("surroundings")
def test_nothing_of_the_real_account_reaches_the_server(together_env, chat_body):
    """The project and the headers of the surrounding environment are not sent."""
    with Together() as sdk:
        assert sdk.project_id is None
        assert sdk.chat.completions.create(**chat_body).choices
    assert "x-real" not in together_env.requests[0].headers


def test_the_plugin_costs_nothing_until_it_is_used():
    """Projects that only have the plugin installed do not pay for the server or the core."""
    code = (
        "import sys, aideon_testing.plugin; "
        "sys.exit(any(name in sys.modules for name in ('h11', 'aideon_core', 'asyncio')))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


COMMAND = [sys.executable, "-m", "aideon_testing"]


@contextmanager
def serving(*options: str, number: int = signal.SIGTERM) -> Iterator[tuple[str, list[str]]]:
    """The command with these options; gives its URL and, after the block, what it printed."""
    printed: list[str] = []
    with subprocess.Popen([*COMMAND, *options], stdout=subprocess.PIPE, text=True) as process:
        printed.append(process.stdout.readline())
        try:
            yield printed[0].split()[-1], printed
        finally:
            process.send_signal(number)
            printed.append(process.stdout.read())
            assert process.wait(timeout=20) == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_command_serves_until_a_signal_and_exits_with_zero(number):
    """The command prints where it listens, and leaves cleanly."""
    with serving("--api-key", "secret", number=number) as (url, printed):
        headers = {"authorization": "Bearer secret"}
        assert httpx2.get(f"{url}/v1/models", headers=headers).is_success
        assert httpx2.get(f"{url}/v1/models", headers=HEADERS).status_code == 401
    assert f"TOGETHER_BASE_URL={url}" in printed[1]
    assert "TOGETHER_API_KEY=secret" in printed[1]


def test_the_command_can_limit_and_slow_down_its_answers(chat_body):
    """Rates hold for each key, and every answer takes its time."""
    keys = ["--api-key", "a", "--api-key", "b"]
    with serving(*keys, "--requests-per-second", "0.1", "--latency", "0.2") as (url, _):
        start = time.monotonic()
        statuses = [
            httpx2.post(
                url + CHAT, json=chat_body, headers={"authorization": f"Bearer {key}"}
            ).status_code
            for key in ("a", "a", "b", "c")
        ]
        assert statuses == [200, 429, 200, 401]
        assert time.monotonic() - start >= 0.8


def test_the_command_can_answer_with_recordings(tmp_path):
    """A directory of recordings is served, and it is said how many there are."""
    asked = {"method": "GET", "uri": "https://api.together.xyz/v1/models", "body": None}
    told = {
        "status": {"code": 200, "message": "OK"},
        "headers": {"content-type": ["application/json"]},
        "body": {"string": "[1]"},
    }
    recorded = {
        "version": 1,
        "interactions": [{"request": asked | {"headers": {}}, "response": told}],
    }
    (tmp_path / "models.yaml").write_text(json.dumps(recorded))
    with serving("--replay", str(tmp_path)) as (url, printed):
        assert httpx2.get(f"{url}/v1/models", headers=HEADERS).text == "[1]"
    assert f"1 recordings in {tmp_path}" in printed[1]


@pytest.mark.parametrize(
    ("options", "status", "message"),
    [
        (["--replay", "nowhere"], 1, "nowhere"),
        (["--requests-per-second", "0"], 2, "a rate is above 0"),
        (["--replay", "a", "--gguf", "b"], 2, "not allowed with"),
    ],
)
def test_the_command_says_what_is_wrong_with_its_options(options, status, message):
    """A mistake ends the command at once, with a message and no traceback."""
    done = subprocess.run([*COMMAND, *options], capture_output=True, text=True, check=False)
    assert done.returncode == status
    assert message in done.stderr
    assert "Traceback" not in done.stderr
