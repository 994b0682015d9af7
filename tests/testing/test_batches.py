"""``/v1/batches``, as the together SDK uses it and as it is on the wire."""

from __future__ import annotations

import asyncio
import json
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import httpx2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from together import AsyncTogether, BadRequestError, NotFoundError, Together

from aideon_core.types import Chunk
from aideon_testing import Failure, LoopbackTogether, Recordings, Reply, multipart
from aideon_testing.endpoints.batch_lines import Line, read

MODEL = "openai/gpt-oss-120b"
CHAT = "/v1/chat/completions"
BATCHES = "/v1/batches"
FINAL = {"COMPLETED", "FAILED", "EXPIRED", "CANCELLED"}


@pytest.fixture
def sdk(together):
    with Together(api_key="any", base_url=together.base_url, max_retries=0) as client:
        yield client


def line(custom_id, text="Hi", **changes):
    body = {"model": MODEL, "messages": [{"role": "user", "content": text}]}
    return {"custom_id": custom_id, "body": body | changes}


def test_a_batch_needs_no_key_where_none_is_asked_for():
    """Behind recordings, which ask for no key, a batch without one is made and done."""
    with (
        LoopbackTogether(Recordings([], pass_through=True)) as together,
        httpx2.Client(base_url=together.base_url) as client,
    ):
        fields = {"file_name": "a.jsonl", "purpose": "batch-api", "file_type": "jsonl"}
        form = {name: (None, value) for name, value in fields.items()}
        form["file"] = ("a.jsonl", jsonl(line("one")))
        file = client.post("/v1/files/upload", files=form).json()
        asked = {"endpoint": CHAT, "input_file_id": file["id"]}
        made = client.post(BATCHES, json=asked)
        assert made.status_code == 201
        job = [client.get(f"{BATCHES}/{made.json()['job']['id']}").json() for _ in range(2)][-1]
    assert job["status"] == "COMPLETED"


def jsonl(*rows):
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def upload(client, content, purpose="batch-api"):
    parts = {"purpose": (None, purpose), "file_name": (None, "in.jsonl"), "file": ("f", content)}
    return client.post("/v1/files/upload", files=parts).json()["id"]


def create(client, content, **changes):
    body = {"endpoint": CHAT, "input_file_id": upload(client, content)}
    return client.post(BATCHES, json=body | changes)


def finish(client, job_id):
    """Look at a job until it is over."""
    for _ in range(100):
        if (job := client.get(f"{BATCHES}/{job_id}").json())["status"] in FINAL:
            return job
    raise AssertionError(f"still not over: {job}")


def run(client, *rows, **changes):
    """A batch from its beginning to its end: the job, its output and its errors."""
    job = finish(client, create(client, jsonl(*rows), **changes).json()["job"]["id"])
    return job, *(rows_of(client, job.get(f"{kind}_file_id")) for kind in ("output", "error"))


def rows_of(client, file_id):
    if file_id is None:
        return None
    content = client.get(f"/v1/files/{file_id}/content").content
    return [json.loads(row) for row in content.splitlines()]


def test_the_sdk_runs_a_batch_from_upload_to_output(together, sdk, tmp_path):
    """Upload, create, poll, download: each line is answered as a request of its own is."""
    together.script.say("one", "two")
    path = tmp_path / "in.jsonl"
    path.write_bytes(jsonl(line("a", "1"), line("b", "2")))
    file = sdk.files.upload(path, purpose="batch-api", check=True)
    job = sdk.batches.create(endpoint=CHAT, input_file_id=file.id, completion_window="24h").job
    seen = [(job.status, job.progress)]
    while job.status not in FINAL:
        job = sdk.batches.retrieve(job.id)
        seen.append((job.status, job.progress))
    assert seen == [("VALIDATING", 0), ("IN_PROGRESS", 0), ("COMPLETED", 100)]
    assert (job.input_file_id, job.x_model_id, job.endpoint) == (file.id, MODEL, CHAT)
    assert job.file_size_bytes == path.stat().st_size
    assert job.error_file_id is None
    assert job.created_at <= job.completed_at < job.job_deadline
    rows = [json.loads(row) for row in sdk.files.content(job.output_file_id).iter_lines()]
    assert [row["custom_id"] for row in rows] == ["a", "b"]
    assert [row["response"]["status_code"] for row in rows] == [200, 200]
    bodies = [row["response"]["body"] for row in rows]
    assert [body["choices"][0]["message"]["content"] for body in bodies] == ["one", "two"]
    assert {body["object"] for body in bodies} == {"chat.completion"}
    assert len({body["id"] for body in bodies}) == 2
    assert sdk.files.retrieve(job.output_file_id).purpose == "batch-generated"
    assert [job.id for job in sdk.batches.list()] == [job.id]


async def test_the_async_sdk_runs_a_batch(together, tmp_path):
    """AsyncTogether creates, polls, lists and cancels batches too."""
    path = tmp_path / "in.jsonl"
    path.write_bytes(jsonl(line("a")))
    async with AsyncTogether(api_key="any", base_url=together.base_url) as client:
        file = await client.files.upload(path, purpose="batch-api")
        created = [
            (await client.batches.create(endpoint=CHAT, input_file_id=file.id)).job
            for _ in range(2)
        ]
        assert (await client.batches.cancel(created[1].id)).status == "CANCELLED"
        job = created[0]
        while job.status != "COMPLETED":
            job = await client.batches.retrieve(job.id)
        assert b"heard: Hi" in await (await client.files.content(job.output_file_id)).read()
        assert [job.status for job in await client.batches.list()] == ["COMPLETED", "CANCELLED"]


def test_a_batch_has_the_shapes_of_the_wire(client):
    """Create wraps the job, retrieve and cancel send it bare, list sends a bare array."""
    created = create(client, jsonl(line("a")))
    assert created.status_code == 201
    job = created.json()["job"]
    assert re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", job["id"])
    moment = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
    assert moment.fullmatch(job["created_at"])
    assert moment.fullmatch(job["job_deadline"])
    assert set(job) == {
        "id",
        "user_id",
        "input_file_id",
        "file_size_bytes",
        "status",
        "job_deadline",
        "created_at",
        "endpoint",
        "progress",
    }
    done = finish(client, job["id"])
    assert moment.fullmatch(done["completed_at"])
    assert done["model_id"] == MODEL
    assert client.get(BATCHES).json() == [done]


def test_listing_takes_jobs_on_like_retrieving(client):
    """A client that polls the list sees its batch finish as well."""
    create(client, jsonl(line("a")))
    statuses = [client.get(BATCHES).json()[0]["status"] for _ in range(3)]
    assert statuses == ["IN_PROGRESS", "COMPLETED", "COMPLETED"]


def test_a_line_that_fails_is_in_the_error_file_and_stops_no_other(together, client):
    """A completed batch has an error file when some lines failed, and the rest answered."""
    together.script.reply(Reply("fine"), Reply("half", cut_after=1))
    together.script.fail(Failure.rate_limited(), Failure.edge(), Failure(418, {"error": "tea"}))
    job, output, errors = run(
        client,
        line("good"),
        line("unknown", model="no/such"),
        line("cut"),
        line("limited"),
        line("edge"),
        line("tea"),
        line("empty", messages=[]),
        line("none", model=None),
    )
    assert (job["status"], job["progress"]) == ("COMPLETED", 100)
    assert [row["custom_id"] for row in output] == ["good"]
    assert errors[0] == {
        "custom_id": "unknown",
        "error": {"message": "Invalid model specified", "code": "invalid_model"},
    }
    assert {row["custom_id"]: row["error"]["code"] for row in errors[1:]} == {
        "cut": "server_error",
        "limited": "rate_limit",
        "edge": "521",
        "tea": "418",
        "empty": "invalid_request_error",
        "none": "invalid_request_error",
    }
    assert errors[1]["error"]["message"] == "The engine broke off in its answer."
    assert errors[3]["error"]["message"] == "error code: 521"


def test_a_batch_in_which_all_fails_has_no_output_file(client):
    """What is empty is not there."""
    job, output, errors = run(client, line("a", model="no/such"))
    assert (job["status"], output, len(errors)) == ("COMPLETED", None, 1)


def test_a_bug_of_the_answerer_costs_one_line(caplog):
    """An answerer that raises anything is one server error in the error file."""

    class Buggy:
        async def answer(self, body):
            raise ZeroDivisionError
            yield

    with (
        LoopbackTogether(Buggy()) as server,
        httpx2.Client(base_url=server.base_url, headers={"authorization": "Bearer k"}) as client,
    ):
        server.script.say("fine")
        _, output, errors = run(client, line("a"), line("b"))
    assert [row["custom_id"] for row in output] == ["a"]
    assert errors == [
        {
            "custom_id": "b",
            "error": {"message": "Internal server error", "code": "server_error"},
        }
    ]
    assert "ZeroDivisionError" in caplog.text


def test_a_line_is_never_streamed(client):
    """A line that asks for a stream is answered whole."""
    _, output, _ = run(client, line("a", stream=True))
    assert output[0]["response"]["body"]["object"] == "chat.completion"


def test_the_jobs_model_serves_lines_that_name_none(client):
    """model_id is asked by lines without a model, and only by them."""
    bare = {"custom_id": "a", "body": {"messages": [{"role": "user", "content": "Hi"}]}}
    other = "openai/gpt-oss-20b"
    job, output, _ = run(client, bare, line("b"), model_id=other)
    assert job["model_id"] == other
    assert [row["response"]["body"]["model"] for row in output] == [other, MODEL]


@settings(
    max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
@given(
    texts=st.dictionaries(
        st.text(st.characters(codec="utf-8"), min_size=1, max_size=64),
        st.text(st.characters(codec="utf-8")),
        min_size=1,
        max_size=8,
    )
)
def test_a_batch_answers_as_the_endpoint_does(client, texts):
    """Whatever ids and prompts, the output has each line once, with its own answer."""
    _, output, errors = run(client, *(line(name, text) for name, text in texts.items()))
    answers = {
        row["custom_id"]: row["response"]["body"]["choices"][0]["message"]["content"]
        for row in output
    }
    assert answers == {name: f"The loopback server heard: {text}" for name, text in texts.items()}
    assert (errors, len(output)) == (None, len(texts))


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b"", "The input file has no requests."),
        (b"\n \n", "The input file has no requests."),
        (jsonl(line("a")) + b"{", "Line 2 is no JSON"),
        (b"\xff", "Line 1 is no JSON"),
        (b"[" * 200_000, "Line 1 is no JSON"),
        (b"[]", "Line 1 is no JSON object."),
        (jsonl({"body": {}}), "Line 1 needs a custom_id of 1 to 64 characters."),
        (jsonl(line("")), "Line 1 needs a custom_id of 1 to 64 characters."),
        (jsonl(line(1)), "Line 1 needs a custom_id of 1 to 64 characters."),
        (jsonl(line("x" * 65)), "Line 1 needs a custom_id of 1 to 64 characters."),
        (jsonl({"custom_id": "a", "body": "b"}), "Line 1 needs a body that is an object."),
        (jsonl(line("a"), line("b"), line("a")), "Line 3 repeats the custom_id of line 1."),
        (b"{}\n" * 50_001, "The input file has 50001 requests; the limit is 50000."),
    ],
)
def test_a_file_that_is_no_batch_fails_the_job(together, client, content, error):
    """A failed job says which line is wrong, and nothing was asked."""
    together.script.say("unused")
    job = finish(client, create(client, content).json()["job"]["id"])
    assert job["status"] == "FAILED"
    assert job["error"].startswith(error)
    assert "output_file_id" not in job
    assert len(together.script) == 1


def test_an_input_file_has_a_largest_size():
    """Above 100 MB there is no batch."""
    with pytest.raises(ValueError, match="the limit is 104857600"):
        read(b" " * (100 * 2**20 + 1))
    with pytest.raises(ValueError, match="no requests"):
        read(b" " * (100 * 2**20))


def test_a_file_may_end_its_lines_as_it_likes():
    """Windows line ends and a missing last one are no errors; other separators are text."""
    rows = [line("a", "x\u2028y"), line("b")]
    text = "\r\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    assert [(row.custom_id, row.body) for row in read(text.encode())] == [
        (row["custom_id"], row["body"]) for row in rows
    ]


@pytest.mark.parametrize(
    "changes",
    [
        {"endpoint": "/v1/completions"},
        {"endpoint": None},
        {"completion_window": "1h"},
        {"input_file_id": "file-none"},
        {"input_file_id": None},
        {"model_id": 7},
    ],
)
def test_a_batch_that_cannot_be_is_refused(client, changes):
    """A 400 whose error is a text, as batches have it."""
    response = create(client, jsonl(line("a")), **changes)
    assert response.status_code == 400
    assert next(iter(changes)) in response.json()["error"] or "file" in response.json()["error"]
    assert client.get(BATCHES).json() == []


def test_an_input_file_is_uploaded_for_batches(client):
    """A file for training is no input of a batch, and the error says what to do."""
    body = {"endpoint": CHAT, "input_file_id": upload(client, jsonl(line("a")), "fine-tune")}
    response = client.post(BATCHES, json=body)
    assert response.status_code == 400
    assert response.json()["error"].endswith("upload it for 'batch-api'.")


def test_errors_of_batches_are_texts(together, client, sdk):
    """Everything that goes wrong is {"error": "..."}, not the object of other endpoints."""
    keyless = httpx2.get(together.base_url + BATCHES)
    assert (keyless.status_code, keyless.text) == (401, '{"error":"Unauthorized"}')
    for response in (client.get(f"{BATCHES}/no"), client.post(f"{BATCHES}/no/cancel")):
        assert (response.status_code, response.text) == (404, '{"error":"Batch no not found."}')
    assert client.post(BATCHES, content=b"{").json() == {"error": "The body is no JSON object."}
    with pytest.raises(NotFoundError) as caught:
        sdk.batches.retrieve("no")
    assert caught.value.body == {"error": "Batch no not found."}


def test_a_cancelled_job_asks_nothing(together, client):
    """Before its first line is answered, a job can be cancelled without a trace."""
    together.script.say("unused")
    job_id = create(client, jsonl(line("a"))).json()["job"]["id"]
    cancelled = client.post(f"{BATCHES}/{job_id}/cancel").json()
    assert (cancelled["id"], cancelled["status"]) == (job_id, "CANCELLED")
    assert finish(client, job_id) == cancelled
    assert len(together.script) == 1


def test_what_is_over_cannot_be_cancelled(client, sdk):
    """Cancelling a finished job is a 400 that says how it ended."""
    job, *_ = run(client, line("a"))
    with pytest.raises(BadRequestError, match="COMPLETED"):
        sdk.batches.cancel(job["id"])


@pytest.fixture
def slow_job(together, client, monkeypatch):
    """A job in progress: of its two lines one is answered, the other will not be for long."""
    monkeypatch.setattr("aideon_testing.endpoints.batches._PATIENCE_SECONDS", 0.01)
    together.script.reply(Reply("fast"), Reply("slow", delay=600))
    job = create(client, jsonl(line("a"), line("b"))).json()["job"]
    while together.script:
        job = client.get(f"{BATCHES}/{job['id']}").json()
    return client.get(f"{BATCHES}/{job['id']}").json()


def test_a_slow_answer_shows_in_the_progress(slow_job):
    """A look does not wait for what takes long; it tells how much is done."""
    assert (slow_job["status"], slow_job["progress"]) == ("IN_PROGRESS", 50)
    assert "output_file_id" not in slow_job


def test_looks_at_the_same_time_ask_no_line_twice(together, client, slow_job):
    """However many clients poll, each line is asked once."""
    together.script.say("unused")
    with ThreadPoolExecutor(8) as pool:
        for _ in pool.map(lambda _: client.get(f"{BATCHES}/{slow_job['id']}"), range(24)):
            pass
    assert len(together.script) == 1


def test_a_job_in_progress_can_be_cancelled(client, slow_job):
    """A cancelled job stays as far as it came."""
    cancelled = client.post(f"{BATCHES}/{slow_job['id']}/cancel").json()
    assert (cancelled["status"], cancelled["progress"]) == ("CANCELLED", 50)
    assert client.get(f"{BATCHES}/{slow_job['id']}").json() == cancelled


def test_cancelling_ends_the_answer_under_way(monkeypatch):
    """A model that answers a line stops when its job is cancelled."""
    monkeypatch.setattr("aideon_testing.endpoints.batches._PATIENCE_SECONDS", 0.01)
    begun, ended = threading.Event(), threading.Event()

    class Endless:
        async def answer(self, body):
            try:
                while True:
                    begun.set()
                    yield Chunk(text="on and ")
                    await asyncio.sleep(0.001)
            finally:
                ended.set()

    with (
        LoopbackTogether(Endless()) as server,
        httpx2.Client(base_url=server.base_url, headers={"authorization": "Bearer k"}) as client,
    ):
        job_id = create(client, jsonl(line("a"))).json()["job"]["id"]
        while not begun.is_set():
            client.get(f"{BATCHES}/{job_id}")
        assert not ended.is_set()
        client.post(f"{BATCHES}/{job_id}/cancel")
        assert ended.wait(10)


def test_a_job_that_takes_more_than_a_day_expires(client, slow_job, monkeypatch):
    """After its deadline a job is looked at once more, and is over."""
    later = SimpleNamespace(time=lambda: 4_000_000_000.0)
    monkeypatch.setattr("aideon_testing.service.time", later)
    assert finish(client, slow_job["id"])["status"] == "EXPIRED"


def test_a_job_goes_on_after_its_server_was_away(together, slow_job):
    """A server that is stopped and started again takes its jobs up where they were."""
    together.stop()
    together.start()
    headers = {"authorization": "Bearer any"}
    with httpx2.Client(base_url=together.base_url, headers=headers) as client:
        job = finish(client, slow_job["id"])
        rows = rows_of(client, job["output_file_id"])
    texts = [row["response"]["body"]["choices"][0]["message"]["content"] for row in rows]
    assert texts == ["fast", "The loopback server heard: Hi"]


def test_a_line_for_audio_is_sent_as_the_form_that_audio_takes():
    """The body's fields become those of a form, its lists repeated names."""
    body = {
        "file": "https://example.com/ü.mp3",
        "timestamp_granularities": ["word", "segment"],
        "diarize": True,
        "temperature": 0.5,
    }
    request = Line("a", body).request("/v1/audio/transcriptions", "openai/whisper-large-v3", {})
    form = multipart.parse(request.headers["content-type"], request.content)
    assert form.files == {}
    assert form.fields == {
        "model": ["openai/whisper-large-v3"],
        "file": ["https://example.com/ü.mp3"],
        "timestamp_granularities[]": ["word", "segment"],
        "diarize": ["true"],
        "temperature": ["0.5"],
    }


def test_an_audio_batch_is_answered_by_the_audio_endpoint(together, client):
    """Lines for audio name the sound by its URL, and get a transcript each."""
    together.script.say("Bonjour")
    body = {"model": "openai/whisper-large-v3", "file": "https://example.com/a.mp3"}
    row = {"custom_id": "a", "body": body}
    _, output, errors = run(client, row, endpoint="/v1/audio/transcriptions")
    assert output == [
        {"custom_id": "a", "response": {"status_code": 200, "body": {"text": "Bonjour"}}}
    ]
    assert errors is None
