"""Faults on demand: what a test can break, when, and for whom."""

from __future__ import annotations

import gzip
import json
import socket
import time

import httpx2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aideon_testing import Failure, LoopbackTogether, Match, Reply, faults
from aideon_testing.faults.streams import frames, gathered

CHAT = "/v1/chat/completions"
HEADERS = {"authorization": "Bearer k"}
BROKEN = (httpx2.RemoteProtocolError, httpx2.ReadError)


@pytest.fixture
def ask(client, chat_body):
    """Sends the same request again and again; says the status."""

    def send(**change: object) -> int:
        return client.post(CHAT, json=chat_body | change).status_code

    return send


def received(together, *, stream=False, path=CHAT):
    """All bytes of one response, and whether the connection ended with a reset."""
    body = {"model": "openai/gpt-oss-120b", "messages": [{"role": "user", "content": "é"}]}
    content = json.dumps(body | {"stream": stream}).encode()
    head = f"POST {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer k\r\nconnection: close\r\n"
    data = bytearray()
    port = httpx2.URL(together.base_url).port
    with socket.create_connection(("127.0.0.1", port), timeout=10) as raw:
        raw.sendall(f"{head}content-length: {len(content)}\r\n\r\n".encode() + content)
        try:
            while part := raw.recv(65536):
                data += part
        except ConnectionResetError:
            return bytes(data), True
    return bytes(data), False


# When and for whom


def test_the_next_requests_meet_a_fault_and_no_more(together, ask):
    """next() breaks as many requests as it says, one by default."""
    together.faults.next(Failure.server_error(), times=2)
    together.faults.next(Failure.unavailable())
    assert [ask() for _ in range(4)] == [500, 500, 503, 200]


def test_every_nth_request_meets_a_fault(together, ask):
    """every(3) spares two requests and breaks the third, for as long as it is in."""
    broken = together.faults.every(3, Failure.server_error())
    assert [ask() for _ in range(7)] == [200, 200, 500, 200, 200, 500, 200]
    assert broken.met == 2


def test_a_list_of_faults_is_met_in_its_order(together, ask):
    """sequence() gives each request its own fault, and None spares one."""
    together.faults.sequence(Failure.server_error(), None, Failure.rate_limited())
    assert [ask() for _ in range(4)] == [500, 200, 429, 200]


def test_a_fault_stays_until_it_is_removed(together, ask):
    """always() is ended by remove(), by the end of a with block, or by clear()."""
    broken = together.faults.always(Failure.server_error())
    assert [ask(), ask()] == [500, 500]
    broken.remove()
    broken.remove()
    assert ask() == 200
    with together.faults.always(Failure.unavailable()):
        assert ask() == 503
    assert ask() == 200
    together.faults.always(Failure.server_error())
    together.faults.clear()
    assert ask() == 200


def test_chance_is_the_same_for_the_same_seed(chat_body):
    """randomly() breaks a share of the requests, and another run breaks the same ones."""

    def run(seed: int) -> list[int]:
        with LoopbackTogether() as together, httpx2.Client(headers=HEADERS) as client:
            together.faults.randomly(0.3, Failure.server_error(), seed=seed)
            url = f"{together.base_url}/v1/models"
            return [client.get(url).status_code for _ in range(60)]

    once, again, other = run(1), run(1), run(2)
    assert once == again != other
    assert 5 <= once.count(500) <= 35


@pytest.mark.parametrize(
    "on",
    [
        Match(method="POST"),
        Match(path="*/chat/completions"),
        Match(model="openai/gpt-oss-120b"),
        Match(key="any"),
        Match(where=lambda request: "messages" in (request.body or {})),
        Match(method="POST", path=CHAT, model="openai/gpt-oss-120b", key="any"),
    ],
)
def test_a_fault_can_be_meant_for_some_requests_only(together, client, ask, on):
    """Requests that do not match neither meet a fault nor count."""
    together.faults.every(2, Failure.server_error(), on=on)
    assert ask() == 200
    headers = {"authorization": "Bearer other"}
    assert client.get("/v1/models", headers=headers).status_code == 200
    assert ask() == 500


@pytest.mark.parametrize(
    "on", [Match(method="GET"), Match(path="/v1/chat"), Match(model="a/b"), Match(key="b")]
)
def test_what_does_not_match_is_left_alone(together, ask, on):
    """One thing that differs is enough for a request to be spared."""
    together.faults.always(Failure.server_error(), on=on)
    assert ask() == 200


def test_faults_nest_from_the_outside_in(together, ask, client, chat_body):
    """A fault changes the answer of those after it, failures and refusals included."""
    together.faults.next(faults.Headers({"x-outer": "yes"}), Failure.rate_limited())
    response = client.post(CHAT, json=chat_body)
    assert (response.status_code, response.headers["x-outer"]) == (429, "yes")
    together.faults.always(faults.Headers({"x-outer": "yes"}))
    together.faults.next(Failure.server_error())
    assert client.post(CHAT, json=chat_body).headers["x-outer"] == "yes"
    refused = client.post(CHAT, headers={"authorization": ""}, json=chat_body)
    assert (refused.status_code, refused.headers["x-outer"]) == (401, "yes")


def test_a_failure_leaves_the_script_alone(together, ask):
    """A request that is broken before it is answered takes no answer from the script."""
    together.script.say("kept")
    together.faults.next(Failure.server_error())
    assert (ask(), len(together.script)) == (500, 1)


def test_impossible_schedules_are_refused(together):
    """A schedule that cannot be meant is an error where it is written."""
    with pytest.raises(ValueError, match="counts from 1"):
        together.faults.every(0, Failure.server_error())
    with pytest.raises(ValueError, match="between 0 and 1"):
        together.faults.randomly(30, Failure.server_error())
    with pytest.raises(ValueError, match="must be above 0"):
        faults.Drip(0)


# Time


def test_latency_holds_an_answer_back(together, ask):
    """Latency waits before the request is looked at, jitter some more."""
    together.faults.next(faults.Latency(0.2, jitter=0.1))
    start = time.monotonic()
    assert ask() == 200
    assert 0.2 <= time.monotonic() - start < 5


@pytest.mark.parametrize(
    "stall",
    [faults.Stall(of="response"), faults.Stall(at=30, of="response"), faults.Stall(at=30)],
)
@pytest.mark.parametrize("stream", [False, True])
def test_a_stalled_answer_runs_into_the_clients_timeout(together, chat_body, stall, stream):
    """An answer can stop before its headers, within them, or within its body."""
    together.faults.next(stall)
    body = chat_body | {"stream": stream}
    with pytest.raises(httpx2.ReadTimeout):
        httpx2.post(together.base_url + CHAT, json=body, headers=HEADERS, timeout=0.3)
    assert httpx2.post(together.base_url + CHAT, json=body, headers=HEADERS).is_success


def test_a_stall_can_end(together, client, chat_body):
    """After its seconds a stalled answer goes on as if nothing had been."""
    together.faults.next(faults.Stall(at=30, seconds=0.2))
    start = time.monotonic()
    assert client.post(CHAT, json=chat_body).json()["object"] == "chat.completion"
    assert time.monotonic() - start >= 0.2


def test_a_drip_is_as_slow_as_it_says(together):
    """The bytes of a response come at the rate asked for, and all of them do."""
    together.faults.next(faults.Drip(bytes_per_second=4000))
    start = time.monotonic()
    data, _ = received(together)
    assert time.monotonic() - start >= len(data) / 4000 * 0.9
    assert json.loads(data.partition(b"\r\n\r\n")[2])["object"] == "chat.completion"


# Breaks


@settings(max_examples=25, deadline=None)
@given(at=st.integers(0, 1200), stream=st.booleans())
def test_a_response_can_be_cut_at_any_byte(at, stream):
    """Exactly the bytes before the cut arrive, then the connection ends."""
    with LoopbackTogether() as together:
        together.script.say("one", "one")
        cut = together.faults.next(faults.Cut(at, of="response"))
        data, reset = received(together, stream=stream)
        assert cut.met == 1
        assert not reset
        whole, _ = received(together, stream=stream)
    assert len(data) == min(at, len(whole))
    # The date in the headers may have moved on by a second.
    assert data[:15] == whole[: min(15, len(data))]


@pytest.mark.parametrize("stream", [False, True])
def test_a_body_is_cut_by_its_own_bytes(together, stream):
    """Headers and the framing of chunks do not count when the body is cut."""
    together.faults.next(faults.Cut(5))
    data, _ = received(together, stream=stream)
    head, _, body = data.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200")
    assert body == (b"5\r\ndata:\r\n" if stream else b'{\n  "')


@pytest.mark.parametrize("stream", [False, True])
def test_a_body_can_end_within_a_character(together, stream):
    """The last byte that arrives is the first of a character that has more."""
    together.script.reply(Reply("a € b"))
    together.faults.next(faults.CutInside("€"))
    data, _ = received(together, stream=stream)
    assert "€".encode()[:1] in data
    assert "€".encode()[:2] not in data
    assert not data.endswith(b"0\r\n\r\n")


@pytest.mark.parametrize("at", [0, 40])
def test_a_connection_can_be_reset(together, at):
    """A reset is not an end: the client's system reports it as an error."""
    together.faults.next(faults.Cut(at, reset=True))
    data, reset = received(together)
    assert reset
    assert b"\r\n\r\n" in data


@pytest.mark.parametrize("off_by", [7, -7])
@pytest.mark.parametrize("stream", [False, True])
def test_a_content_length_can_be_wrong(together, off_by, stream):
    """The length claimed is off, the body is whole, and the connection closes."""
    together.faults.next(faults.ContentLength(off_by))
    data, _ = received(together, stream=stream)
    head, _, body = data.partition(b"\r\n\r\n")
    assert f"content-length: {len(body) + off_by}".encode() in head
    assert (b"data: [DONE]" in body) == stream


def test_an_outage_refuses_connections_and_ends(together, client, ask):
    """While the server is away nobody is let in; afterwards it is where it was."""
    url = together.base_url
    assert ask() == 200
    with together.outage():
        assert together.base_url == url
        for _ in range(2):
            with pytest.raises(httpx2.ConnectError):
                httpx2.get(f"{url}/v1/models", headers=HEADERS)
        with pytest.raises((httpx2.ConnectError, *BROKEN)):
            client.get("/v1/models")
    assert together.base_url == url
    assert ask() == 200
    assert len(together.requests) == 2


# Content


def stream_of(client, chat_body):
    return client.post(CHAT, json=chat_body | {"stream": True})


def test_one_frame_can_be_bad_json(together, client, chat_body):
    """The frames around the malformed one stay as they are."""
    together.script.say("one two three")
    together.faults.next(faults.Malformed(frame=2))
    lines = [line for line in stream_of(client, chat_body).text.splitlines() if line]
    assert lines[-1] == "data: [DONE]"
    for number, line in enumerate(lines[:-1]):
        if number == 2:
            with pytest.raises(ValueError, match=r"."):
                json.loads(line.removeprefix("data: "))
        else:
            json.loads(line.removeprefix("data: "))


def test_a_short_stream_still_gets_its_bad_frame(together, client, chat_body):
    """Where there are too few frames the bad one comes before the end."""
    together.faults.next(faults.Malformed(frame=10_000))
    lines = [line for line in stream_of(client, chat_body).text.splitlines() if line]
    with pytest.raises(ValueError, match=r"."):
        json.loads(lines[-2].removeprefix("data: "))
    assert lines[-1] == "data: [DONE]"


def test_a_whole_answer_can_be_bad_json(together, client, chat_body):
    """An answer that is no stream is half of its JSON, under a good status."""
    together.faults.next(faults.Malformed())
    response = client.post(CHAT, json=chat_body)
    assert response.status_code == 200
    with pytest.raises(ValueError, match=r"."):
        response.json()


@pytest.mark.parametrize("count", [0, 2])
def test_a_stream_can_end_without_done_or_with_two(together, client, chat_body, count):
    """The number of [DONE] frames is the one asked for; the rest of the stream is whole."""
    together.faults.next(faults.DoneFrames(count))
    text = stream_of(client, chat_body).text
    assert text.count("data: [DONE]\n\n") == count
    assert '"usage":{' in text


@pytest.mark.parametrize("end", ["\r\n", "\r"])
def test_lines_can_end_differently(together, client, chat_body, end):
    """Carriage returns are line ends of server-sent events and blanks of JSON."""
    together.faults.always(faults.LineEnds(end))
    content = stream_of(client, chat_body).content
    assert content.endswith(f"data: [DONE]{end}{end}".encode())
    assert content.count(b"\n") == content.count(b"\r\n")
    assert client.post(CHAT, json=chat_body).json()["object"] == "chat.completion"


@pytest.mark.parametrize("stream", [False, True])
def test_a_body_can_be_compressed(together, client, chat_body, stream):
    """Clients that know gzip see the same answer; the bytes are gzip's."""
    together.script.say("same", "same")
    together.faults.next(faults.Gzip())
    body = chat_body | {"stream": stream}
    with client.stream("POST", CHAT, json=body) as response:
        raw = b"".join(response.iter_raw())
    assert response.headers["content-encoding"] == "gzip"
    plain = client.post(CHAT, json=body).text
    assert len(gzip.decompress(raw)) == len(plain.encode())


@pytest.mark.parametrize("stream", [False, True])
def test_a_body_can_be_oversized(together, client, chat_body, stream):
    """The padding is there in full, and what follows it can still be read."""
    together.faults.next(faults.Oversized(300_000))
    response = client.post(CHAT, json=chat_body | {"stream": stream})
    assert len(response.content) > 300_000
    if stream:
        assert [line for line in response.text.splitlines() if line.startswith("data: ")]
    else:
        assert response.json()["object"] == "chat.completion"


def test_headers_can_be_wrong(together, client, chat_body):
    """Any header can be changed, added or taken away."""
    together.faults.next(
        faults.Headers({"Content-Type": "text/html", "x-request-id": None, "x-new": "1"})
    )
    response = client.post(CHAT, json=chat_body)
    assert response.headers.get_list("content-type") == ["text/html"]
    assert "x-request-id" not in response.headers
    assert response.headers["x-new"] == "1"


def test_a_redirect_leads_where_it_says(together, client, chat_body):
    """A 307 sends the same request elsewhere."""
    together.faults.next(Failure.redirect(f"{together.base_url}{CHAT}"))
    response = client.post(CHAT, json=chat_body, follow_redirects=True)
    assert [step.status_code for step in response.history] == [307]
    assert response.json()["object"] == "chat.completion"


@given(content=st.binary(max_size=60).map(lambda data: data.replace(b"a", b"\n")), data=st.data())
async def test_frames_are_found_wherever_the_parts_end(content, data):
    """However a stream is cut into parts, its frames are the same and nothing is lost."""
    cuts = sorted(data.draw(st.sets(st.integers(0, len(content)))))

    async def parts(*ends):
        for start, end in zip((0, *ends), (*ends, len(content)), strict=True):
            yield content[start:end]

    whole = [frame async for frame in frames(parts())]
    assert [frame async for frame in frames(parts(*cuts))] == whole
    assert b"".join(whole) == content == await gathered(parts(*cuts))
