"""Recordings as answers: how files are read, when a request matches, and what it gets."""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
import sys

import httpx2
import openai
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from aideon_core.errors import MissingDependency
from aideon_testing import Failure, HttpRequest, LoopbackTogether
from aideon_testing.replay import Exchange, RecordedResponse, Recordings, UnreadableRecording
from aideon_testing.wire import Stamp

CHAT = "/v1/chat/completions"
HOST = "https://api.together.xyz"
JSON_HEADERS = {"content-type": "application/json"}


def go_vcr(exchange, **changes):
    """One interaction as go-vcr writes it."""
    request, response = exchange.request, exchange.response
    asked = {
        "host": "api.together.xyz",
        "url": HOST + request.path + (f"?{request.query}" if request.query else ""),
        "method": request.method,
        "headers": {name.title(): [value] for name, value in request.headers.items()},
        "body": as_text(request.content),
    }
    answered = {
        "body": as_text(response.raw),
        "headers": grouped(response.headers),
        "status": "200 OK",
        "code": response.status,
        "duration": "123.4ms",
    }
    return {"id": 0, "request": asked, "response": answered | changes}


def vcrpy(exchange, **changes):
    """One interaction as vcrpy writes it."""
    request, response = exchange.request, exchange.response
    asked = {
        "uri": HOST + request.path + (f"?{request.query}" if request.query else ""),
        "method": request.method,
        "headers": {name.title(): [value] for name, value in request.headers.items()},
        "body": as_text(request.content) if request.content else None,
    }
    answered = {
        "body": {"string": as_text(response.raw)},
        "headers": grouped(response.headers),
        "status": {"code": response.status, "message": "OK"},
    }
    return {"request": asked, "response": answered | changes}


def tape(exchange):
    """One entry as huggingface.js writes it, bytes as in its alternative for them."""
    request, response = exchange.request, exchange.response
    body = as_text(response.raw)
    if isinstance(body, bytes):
        body = "data:application/octet-stream;base64," + base64.b64encode(body).decode()
    return {
        "url": HOST + request.path + (f"?{request.query}" if request.query else ""),
        "init": {
            "headers": dict(request.headers),
            "method": request.method,
            "body": request.content.decode(),
        },
        "response": {
            "body": body,
            "status": response.status,
            "statusText": "",
            "headers": dict(response.headers),
        },
    }


def as_text(content):
    try:
        return content.decode()
    except UnicodeDecodeError:
        return content


def grouped(pairs):
    headers = {}
    for name, value in pairs:
        headers.setdefault(name.title(), []).append(value)
    return headers


def cassette(interactions):
    return yaml.safe_dump({"version": 2, "interactions": interactions}, sort_keys=False)


def tapes(exchanges):
    return json.dumps({str(number): tape(each) for number, each in enumerate(exchanges)})


WRITERS = {
    "go-vcr": lambda exchanges: cassette([go_vcr(each) for each in exchanges]),
    "vcrpy": lambda exchanges: cassette([vcrpy(each) for each in exchanges]),
    "tape": tapes,
}


def exchange(body, answer=b"{}", *, path=CHAT, status=200, headers=None, method="POST"):
    """An exchange to write down; a body that is no bytes is sent as JSON."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    path, _, query = path.partition("?")
    pairs = tuple((headers or JSON_HEADERS).items())
    request = HttpRequest(method, path, query, JSON_HEADERS, content)
    return Exchange(None, 1, request, RecordedResponse(status, pairs, answer))


def ask(recordings, request, proceed=None):
    """What the recordings answer: status, headers, body."""

    async def run():
        response = await recordings.intercept(request, Stamp("id", 0), proceed)
        return response, b"".join([part async for part in response.body])

    response, body = asyncio.run(run())
    return response.status, response.headers, body


@pytest.fixture
def write(tmp_path):
    """Write a file of recordings and say where it is."""

    def write(text, name="cassette.yaml"):
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
        return file

    return write


@pytest.fixture
def load(write):
    """Recordings of exchanges, by way of a go-vcr cassette."""
    return lambda *exchanges, **options: Recordings.load(
        write(WRITERS["go-vcr"](exchanges)), **options
    )


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda values: st.lists(values) | st.dictionaries(st.text(), values),
    max_leaves=8,
)
_token = st.text("abcdefghijklmnopqrstuvwxyz-", min_size=1, max_size=8).map("x-{}".format)
_value = st.text([chr(code) for code in range(33, 127)], max_size=10)
_exchanges = st.builds(
    exchange,
    _json,
    st.binary() | st.text().map(str.encode) | _json.map(lambda value: json.dumps(value).encode()),
    path=st.sampled_from([CHAT, "/v1/models", "/v1/files?after=a&after=b", "/shrt/x"]),
    status=st.sampled_from([200, 201, 400, 401, 429, 500, 521]),
    headers=st.dictionaries(_token, _value, min_size=1),
    method=st.sampled_from(["GET", "POST", "DELETE"]),
)


@pytest.mark.parametrize("recorder", WRITERS)
@settings(deadline=None)  # the machine may be busy
@given(written=st.lists(_exchanges, min_size=1, max_size=5))
def test_what_is_written_is_served(recorder, written, tmp_path_factory):
    """Whatever a recorder wrote down is answered with the same status, headers and bytes."""
    file = tmp_path_factory.mktemp("cassettes") / "any"
    file.write_text(WRITERS[recorder](written), encoding="utf-8")
    recordings = Recordings.load(file)
    assert len(recordings) == len(written)
    for number, (kept, original) in enumerate(zip(recordings, written, strict=True), 1):
        assert (kept.source, kept.number) == (file, number)
        assert kept.request.content == original.request.content
        assert kept.response.headers == original.response.headers
        status, headers, body = ask(recordings, original.request)
        assert (status, body) == (original.response.status, original.response.raw)
        assert dict(headers) == {
            **dict(original.response.headers),
            "content-length": str(len(body)),
        }


@settings(deadline=None)  # the machine may be busy
@given(value=_json, seed=st.randoms(use_true_random=False))
def test_json_is_compared_by_value(value, seed):
    """The order of names, white space and escapes do not count."""
    recordings = Recordings([exchange({"value": value})])
    text = json.dumps({"value": _shuffled(value, seed)}, indent=seed.choice([None, 1]))
    ascii_too = json.dumps(json.loads(text), ensure_ascii=False).encode("utf-8", "surrogatepass")
    for content in (text.encode(), ascii_too):
        assert ask(recordings, exchange(content).request)[0] == 200


@settings(deadline=None)  # the machine may be busy
@given(one=_json, other=_json)
def test_different_json_is_no_match(one, other):
    """What is not equal does not match, and the error says where it differs."""
    recordings = Recordings([exchange({"value": one})])
    if json.dumps(_plain(one), sort_keys=True) == json.dumps(_plain(other), sort_keys=True):
        assert ask(recordings, exchange({"value": other}).request)[0] == 200
        return
    with pytest.raises(Failure, match="Nothing was recorded") as failed:
        ask(recordings, exchange({"value": other}).request)
    assert failed.value.body["error"]["param"].startswith("$.value")


def _shuffled(value, seed):
    if isinstance(value, dict):
        names = list(value)
        seed.shuffle(names)
        return {name: _shuffled(value[name], seed) for name in names}
    return [_shuffled(item, seed) for item in value] if isinstance(value, list) else value


def _plain(value):
    """The value with every whole number written as one."""
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    whole = isinstance(value, float) and value.is_integer()
    return int(value) if whole else value


def test_one_and_true_are_two_values():
    """JSON's true is not its 1, while 1 and 1.0 are one number."""
    recordings = Recordings([exchange({"n": 1})])
    assert ask(recordings, exchange(b'{"n": 1.0}').request)[0] == 200
    with pytest.raises(Failure, match="recorded is 1, asked was true"):
        ask(recordings, exchange({"n": True}).request)


def test_a_body_of_any_depth_is_compared():
    """A body nested deeper than Python's parser goes is compared as it is written."""
    deep = b"[" * 100_000 + b"]" * 100_000
    recordings = Recordings([exchange(deep, b"deep")])
    assert ask(recordings, exchange(deep).request)[2] == b"deep"
    with pytest.raises(Failure, match="Nothing was recorded"):
        ask(recordings, exchange(deep + b" ").request)


def test_text_is_not_the_json_that_says_it():
    """A JSON text and the bare text are two bodies, and the error tells them apart."""
    with pytest.raises(Failure, match="recorded is a json body, asked was a raw body"):
        ask(Recordings([exchange("abc")]), exchange(b"abc").request)


@pytest.mark.parametrize(
    ("recorded", "asked"),
    [
        (CHAT, "/v1/v1/chat/completions"),
        ("/together/v1/chat/completions", CHAT),
        ("/v1/v2/supported-models", "/v2/supported-models"),
        ("/v1/files/", "/v1/files"),
        ("/v1/models/a%2Fb", "/v1/models/a/b"),
        ("/v1/files?a=1&b=2", "/v1/files?b=2&a=1"),
        ("/shrt/v1/x", "/v1/x"),
    ],
)
def test_base_paths_do_not_count(recorded, asked):
    """A relay's base path, a repeated version and the order of parameters change nothing."""
    recordings = Recordings([exchange(b"", path=recorded, method="GET")])
    assert ask(recordings, exchange(b"", path=asked, method="GET").request)[0] == 200


@pytest.mark.parametrize(
    ("path", "method"),
    [
        ("/v2/files", "GET"),
        ("/v1/files/v1", "GET"),
        ("/v1/files?limit=1", "GET"),
        ("/v1/files", "POST"),
    ],
)
def test_what_else_is_asked_counts(path, method):
    """Another version, path, parameter or method is another request."""
    recordings = Recordings([exchange(b"", path="/v1/files", method="GET")])
    with pytest.raises(Failure, match=f"Nothing was recorded for {method}"):
        ask(recordings, exchange(b"", path=path, method=method).request)


def form(boundary, content=b"\x89PNG", model="whisper"):
    fields = httpx2.Request(
        "POST",
        HOST,
        data={"model": model},
        files={"file": ("a.png", content, "image/png")},
        headers={"content-type": f"multipart/form-data; boundary={boundary}"},
    )
    return fields.read()


def test_forms_are_compared_by_their_parts(load):
    """Another boundary is the same form; another file is not, and the error says so."""
    recordings = load(exchange(form("one"), b"yes"))
    assert [each.model for each in recordings] == ["whisper"]
    assert ask(recordings, exchange(form("two")).request)[2] == b"yes"
    for other, where in (
        (form("one", b"\x89GIF"), "$.file[0].content"),
        (form("one", model="x"), "$.model[0]"),
    ):
        with pytest.raises(Failure, match="Nothing was recorded") as failed:
            ask(recordings, exchange(other).request)
        assert failed.value.body["error"]["param"] == where


def test_named_fields_are_ignored(load):
    """Fields that another SDK adds match once they are named, at the top and further down."""
    recorded = {"model": "m", "messages": [{"role": "user", "content": "a", "name": None}]}
    asked = {
        "model": "m",
        "messages": [{"role": "user", "content": "a"}],
        "stream_options": {"include_usage": True},
    }
    with pytest.raises(Failure, match="ignore="):
        ask(load(exchange(recorded)), exchange(asked).request)
    for ignore in (
        ("stream_options", "messages[*].name"),
        ("$.stream_options", "$.messages[0]['name']"),
    ):
        assert ask(load(exchange(recorded), ignore=ignore), exchange(asked).request)[0] == 200
    today, tomorrow = (exchange({"messages": [day, "Hello?"]}) for day in ("Monday", "Tuesday"))
    assert ask(load(today, ignore=("messages[0]",)), tomorrow.request)[0] == 200


def test_repeated_requests_are_answered_in_their_order(load):
    """Every answer once, then the last one again; rewind starts over."""
    recordings = load(*(exchange({"a": 1}, answer) for answer in (b"1", b"2", b"3")))
    request = exchange({"a": 1}).request
    assert [ask(recordings, request)[2] for _ in range(4)] == [b"1", b"2", b"3", b"3"]
    recordings.rewind()
    assert ask(recordings, request)[2] == b"1"


def test_over_the_socket_as_recorded(load):
    """Status, bytes and every header reach the client, repeated ones twice; no key is asked."""
    pairs = (
        ("content-type", "image/png"),
        ("set-cookie", "a=1"),
        ("set-cookie", "b=2"),
        ("date", "Wed, 22 Jan 2025 14:06:53 GMT"),
        ("transfer-encoding", "chunked"),
    )
    request = exchange({"a": 1}).request
    png = b"\x89PNG\r\n\x00\xff"
    recorded = Exchange(None, 1, request, RecordedResponse(200, pairs, png))
    with LoopbackTogether(load(recorded)) as together:
        response = httpx2.post(together.base_url + CHAT, json={"a": 1})
    assert response.content == png
    assert response.headers.get_list("set-cookie") == ["a=1", "b=2"]
    assert response.headers["date"] == pairs[3][1]
    assert response.headers["content-length"] == str(len(png))
    assert "transfer-encoding" not in response.headers


def test_streams_are_chunked(load):
    """Server-sent events come without a length, in the recorded bytes."""
    frames = b"data: 1\n\ndata: 2\r\n\r\ndata: [DONE]"
    recorded = exchange({}, frames, headers={"content-type": "text/event-stream;charset=utf-8"})
    with LoopbackTogether(load(recorded)) as together:
        response = httpx2.post(together.base_url + CHAT, json={})
    assert response.content == frames
    assert response.headers["content-type"] == "text/event-stream;charset=utf-8"
    assert response.headers["transfer-encoding"] == "chunked"


def test_no_content_stays_so(load):
    """A 204 has no body and no length."""
    with LoopbackTogether(load(exchange({}, b"", status=204))) as together:
        response = httpx2.post(together.base_url + CHAT, json={})
    assert (response.status_code, response.content) == (204, b"")
    assert "content-length" not in response.headers


@pytest.mark.parametrize(
    ("accepted", "sent_encoded"),
    [("gzip, deflate", True), ("*", True), ("identity", False), ("gzip;q=0, br", False)],
)
def test_compressed_answers(write, accepted, sent_encoded):
    """What was recorded compressed is sent so to those who accept it, else decompressed."""
    packed = gzip.compress(b'{"a": 1}')
    headers = {"content-type": "application/json", "content-encoding": "gzip"}
    recorded = exchange({}, packed, headers=headers)
    recordings = Recordings.load(write(WRITERS["vcrpy"]([recorded])))
    assert [each.response.content for each in recordings] == [b'{"a": 1}']
    with (
        LoopbackTogether(recordings) as together,
        httpx2.stream(
            "POST", together.base_url + CHAT, json={}, headers={"accept-encoding": accepted}
        ) as response,
    ):
        raw = b"".join(response.iter_raw())
    assert raw == (packed if sent_encoded else b'{"a": 1}')
    assert ("content-encoding" in response.headers) is sent_encoded


@pytest.mark.parametrize("name", ["gzip", "x-gzip"])
def test_who_says_nothing_of_encodings_gets_the_recorded_one(write, name):
    """A request without accept-encoding is answered in the bytes that were recorded."""
    packed = gzip.compress(b"{}")
    recorded = exchange({}, packed, headers={"content-encoding": name})
    _, sent, body = ask(Recordings.load(write(WRITERS["vcrpy"]([recorded]))), recorded.request)
    assert (body, dict(sent)["content-encoding"]) == (packed, "gzip")


def test_an_unknown_encoding_is_kept(write):
    """Bytes in an encoding that cannot be read here are sent with its name."""
    recorded = exchange({}, b"\xff\x00", headers={"content-encoding": "br"})
    _, sent, body = ask(Recordings.load(write(WRITERS["vcrpy"]([recorded]))), recorded.request)
    assert (body, dict(sent)["content-encoding"]) == (b"\xff\x00", "br")


@pytest.mark.parametrize(("name", "content"), [("br", b'{"a": 1}'), ("gzip", b"\xff\xd8\xff")])
def test_what_the_recorder_decompressed_is_not_called_compressed(write, name, content):
    """A header that the recorder left over from the wire is not sent again."""
    recorded = exchange({}, content, headers={"content-encoding": name})
    _, sent, body = ask(Recordings.load(write(tapes([recorded]))), recorded.request)
    assert body == content
    assert "content-encoding" not in dict(sent)


VARIANTS = {
    "values for JSON": {"body": None, "parsed_body": {"day": "2025-01-01", "n": [1, None]}},
    "a request's style": {"body": {"day": "2025-01-01", "n": [1, None]}},
    "text": {"body": '{"day":"2025-01-01","n":[1,null]}'},
    "base64": {
        "body": {"base64_string": base64.b64encode(b'{"day":"2025-01-01","n":[1,null]}').decode()}
    },
    "before version 6": {
        "body": None,
        "status": None,
        "status_code": 200,
        "content": '{"day":"2025-01-01","n":[1,null]}',
    },
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_vcrpy_in_its_variants(write, variant):
    """Bodies are read as every version and serializer of vcrpy writes them."""
    text = cassette([vcrpy(exchange({}), **VARIANTS[variant])])
    # Hand-edited cassettes have dates without quotes.
    for file in (write(text), write(text.replace("'2025-01-01'", "2025-01-01"))):
        assert ask(Recordings.load(file), exchange({}).request)[2] == (
            b'{"day":"2025-01-01","n":[1,null]}'
        )


def test_content_decides_and_not_the_name(write, tmp_path):
    """Directories are searched; endings and neighbours that are no recordings do not matter."""
    write(WRITERS["tape"]([exchange({"n": 1})]), "b/tape.yaml")
    write(yaml.safe_dump({"key": tape(exchange({"n": 5}))}), "d.yml")
    write(json.dumps({"interactions": [vcrpy(exchange({"n": 2}))]}), "a.txt")
    write(WRITERS["vcrpy"]([exchange({"n": 3})]), "c.json")
    write("# A note\n\nOn interactions: none [", "README.md")
    write('{"id": "x", "results": []}', "answer.json")
    write(b"\xff\x00", "picture.png")
    write(WRITERS["vcrpy"]([exchange({"n": 4})]), ".git/hidden.yaml")
    recordings = Recordings.load(tmp_path)
    assert [json.loads(each.request.content)["n"] for each in recordings] == [2, 1, 3, 5]
    assert {file.name for file in recordings.left_out} == {
        "README.md",
        "answer.json",
        "picture.png",
    }
    with pytest.raises(UnreadableRecording, match="answer.json: expected a cassette"):
        Recordings.load(tmp_path / "answer.json")


def test_every_broken_file_is_named(write, tmp_path):
    """One error tells all files that cannot be read, each with its reason; none is skipped."""
    write(WRITERS["vcrpy"]([exchange({})]), "good.yaml")
    write("interactions: [", "cut.yaml")
    write("interactions: 5", "number.yaml")
    write('{"interactions": [{"request": {}}]}', "request.json")
    write(json.dumps({"1": tape(exchange({})), "2": {"url": HOST}}), "tape.json")
    with pytest.raises(UnreadableRecording) as failed:
        Recordings.load(tmp_path)
    assert {file.name for file in failed.value.reasons} == {
        "cut.yaml",
        "number.yaml",
        "request.json",
        "tape.json",
    }
    for told in (
        "2.response should be a mapping but is nothing",
        "cut.yaml",
        "neither JSON nor YAML",
        "interactions should be a list",
        "uri",
    ):
        assert told in str(failed.value)


GZIP = {"Content-Encoding": ["gzip"]}
BROKEN = [
    ({"code": "200"}, "interactions[0].response.code should be a whole number but is text"),
    ({"code": True}, "response.code should be a whole number but is true or false"),
    ({"code": 99}, "response.code should be from 200 to 599 but is 99"),
    ({"headers": []}, "response.headers should be a mapping but is a list"),
    ({"headers": {"A B": ["c"]}}, "response.headers.A B should be a header"),
    ({"headers": {"a": ["b\nc"]}}, "response.headers.a should be a header"),
    ({"body": {"base64_string": "?"}}, "response.body.base64_string should be base64"),
    ({"body": {"a": b"1"}}, "response.body should be text, bytes or JSON values"),
    ({"body": gzip.compress(b"a" * 99)[:-9], "headers": GZIP}, "should be whole gzip data"),
]


@pytest.mark.parametrize(("changes", "told"), BROKEN)
def test_broken_recordings_say_where(write, changes, told):
    """The message names the place in the file, what is there and what should be."""
    with pytest.raises(UnreadableRecording) as failed:
        Recordings.load(write(cassette([go_vcr(exchange({}), **changes)])))
    assert told in str(failed.value)
    assert "cassette.yaml" in str(failed.value)


def test_nothing_to_load(tmp_path):
    """An empty or missing directory is a mistake, and no recordings of nothing."""
    with pytest.raises(UnreadableRecording, match="no files"):
        Recordings.load(tmp_path)
    with pytest.raises(FileNotFoundError):
        Recordings.load(tmp_path / "nowhere")


def test_without_pyyaml(write, monkeypatch):
    """YAML needs the extra, and the error names it; JSON does not."""
    monkeypatch.setitem(sys.modules, "yaml", None)
    with pytest.raises(MissingDependency, match=r"aideon-testing\[replay\]"):
        Recordings.load(write("interactions: []"))
    assert len(Recordings.load(write(tapes([exchange({})])))) == 1


def test_a_request_without_a_recording_is_told_the_nearest(load):
    """The SDK raises at once, and its error says which recording was nearest and what differs."""
    long = "x" * 500
    near = {"model": "m", "messages": [{"role": "user", "content": long + "a"}]}
    asked = [{"role": "user", "content": long + "b"}]
    recordings = load(exchange({"model": "n", "messages": []}), exchange(near))
    with (
        LoopbackTogether(recordings) as together,
        openai.OpenAI(base_url=together.base_url + "/v1", api_key="any") as client,
        pytest.raises(openai.APIStatusError) as failed,
    ):
        client.chat.completions.create(model="m", messages=asked)
    assert failed.value.status_code == 418
    assert len(together.requests) == 1
    error = failed.value.body
    assert error["param"] == "$.messages[0].content"
    assert error["code"] == "not_recorded"
    assert "exchange 2 of" in error["message"]
    assert 'xxxa", asked was "…' in error["message"]


def test_a_path_without_recordings_is_told_which_there_are(load):
    """Asking for what was never recorded lists what was."""
    recordings = load(exchange({}), exchange({}), exchange({}, path="/v1/completions"))
    with pytest.raises(Failure, match=r"POST /v1/chat/completions \(2\), POST /v1/completions"):
        ask(recordings, exchange({}, path="/v1/embeddings").request)


def test_passing_through(load):
    """With pass_through, what was not recorded is answered as if there were no recordings."""
    recordings = load(exchange({"a": 1}, b"recorded"), pass_through=True)
    with LoopbackTogether(recordings) as together:
        headers = {"authorization": "Bearer any"}
        models = httpx2.get(together.base_url + "/v1/models", headers=headers)
        recorded = httpx2.post(together.base_url + CHAT, json={"a": 1})
    assert models.json()[0]["id"]
    assert recorded.content == b"recorded"


def test_recordings_of_one_model(load):
    """One model's exchanges are recordings of their own, with the same options."""
    bodies = [{"model": "a", "n": 1}, {"model": "b"}, {"model": "a", "n": 2}]
    recordings = load(*map(exchange, bodies), ignore=("n",))
    assert [each.model for each in recordings] == ["a", "b", "a"]
    one = recordings.of_model("a")
    assert (len(recordings), len(one), len(recordings.of_model("c"))) == (3, 2, 0)
    assert ask(one, exchange({"model": "a", "n": 9}).request)[0] == 200
    with pytest.raises(Failure, match="Nothing was recorded"):
        ask(one, exchange({"model": "b"}).request)
