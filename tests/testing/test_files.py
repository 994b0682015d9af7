"""``/v1/files``, as the together SDK uses it and as it is on the wire."""

from __future__ import annotations

import hashlib
import json

import httpx2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from together import APIStatusError, AsyncTogether, NotFoundError, Together
from together.lib.resources import files as sdk_files
from together.lib.resources.files import FileAlreadyExistsError

from aideon_testing import LoopbackTogether

LINES = [
    {"messages": [{"role": "user", "content": "Hi ✓"}, {"role": "assistant", "content": "Yo"}]},
    {"messages": [{"role": "user", "content": "1+1"}, {"role": "assistant", "content": "2"}]},
]
FORM = {"purpose": "fine-tune", "file_name": "a.jsonl", "file_type": "jsonl"}


@pytest.fixture
def sdk(together):
    with Together(api_key="any", base_url=together.base_url, max_retries=0) as client:
        yield client


@pytest.fixture
def storage():
    """An HTTP client without a key, as presigned URLs want it."""
    with httpx2.Client() as client:
        yield client


@pytest.fixture
def dataset(tmp_path):
    path = tmp_path / "dataset.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in LINES), encoding="utf-8")
    return path


def form(**fields):
    """Text fields as multipart/form-data."""
    return {name: (None, value) for name, value in fields.items()}


def announce(client, content=b"", **changes):
    """The first of the three steps of an upload."""
    digest = hashlib.sha256(content).hexdigest()
    return client.post("/v1/files", files=form(**{"checksum": digest, **FORM, **changes}))


def upload(client, storage, content, **changes):
    """A whole upload in three steps; the answer to the last."""
    step = announce(client, content, **changes)
    assert storage.put(step.headers["location"], content=content).status_code == 200
    return client.post(f"/v1/files/{step.headers['x-together-file-id']}/preprocess")


def test_the_sdk_uploads_lists_reads_and_deletes_a_file(sdk, dataset):
    """A file lives through everything the together SDK does with one."""
    file = sdk.files.upload(dataset, purpose="fine-tune", check=True)
    assert (file.filename, file.bytes) == ("dataset.jsonl", dataset.stat().st_size)
    assert (file.purpose, file.file_type, file.object) == ("fine-tune", "jsonl", "file")
    assert file.processing_status == "COMPLETED"
    retrieved = sdk.files.retrieve(file.id)
    assert retrieved.validation_report.valid
    assert retrieved.validation_report.nlines == len(LINES)
    assert [row.id for row in sdk.files.list().data] == [file.id]
    assert sdk.files.content(file.id).read() == dataset.read_bytes()
    with sdk.files.with_streaming_response.content(file.id) as response:
        assert [json.loads(line) for line in response.iter_lines()] == LINES
    gone = sdk.files.delete(file.id)
    assert (gone.id, gone.deleted) == (file.id, True)
    assert sdk.files.list().data == []
    with pytest.raises(NotFoundError, match=file.id):
        sdk.files.retrieve(file.id)


async def test_the_async_sdk_does_the_same(together, dataset):
    """AsyncTogether uploads by the same steps, and reads the same bytes."""
    async with AsyncTogether(api_key="any", base_url=together.base_url) as client:
        file = await client.files.upload(dataset, purpose="eval")
        content = await client.files.content(file.id)
        assert await content.read() == dataset.read_bytes()
        assert (await client.files.delete(file.id)).deleted
        assert (await client.files.list()).data == []


def test_a_repeated_upload_is_the_file_that_is_there(sdk, client, dataset):
    """The same content is a 409 that names the file, which the SDK fetches or raises."""
    first = sdk.files.upload(dataset)
    assert sdk.files.upload(dataset).id == first.id
    with pytest.raises(FileAlreadyExistsError):
        sdk.files.upload(dataset, raise_if_already_exists=True)
    response = announce(client, dataset.read_bytes())
    assert (response.status_code, response.json()) == (409, {"file_id": first.id})
    sdk.files.delete(first.id)
    assert sdk.files.upload(dataset).id != first.id


def test_only_content_that_came_makes_a_repeat(client):
    """An upload that was given up can be begun again."""
    assert announce(client, b"{}").status_code == 302
    assert announce(client, b"{}").status_code == 302


def test_the_three_steps_are_those_of_the_wire(together, client):
    """A form is redirected to a presigned URL, which takes the content without a key."""
    step = announce(client, b'{"a":1}\n', purpose="batch-api")
    file_id = step.headers["x-together-file-id"]
    assert (step.status_code, step.content) == (302, b"")
    assert step.headers["location"].startswith(f"{together.base_url}/")
    pending = client.get(f"/v1/files/{file_id}").json()
    assert (pending["bytes"], pending["Processed"]) == (0, False)
    assert pending["processing_status"] == "PENDING"
    put = httpx2.put(step.headers["location"], content=b'{"a":1}\n')
    assert (put.status_code, put.content) == (200, b"")
    assert "authorization" not in together.requests[-1].headers
    file = client.post(f"/v1/files/{file_id}/preprocess").json()
    assert isinstance(file.pop("created_at"), int)
    assert file == {
        "id": file_id,
        "object": "file",
        "filename": "a.jsonl",
        "bytes": 8,
        "purpose": "batch-api",
        "FileType": "jsonl",
        "Processed": True,
        "processing_status": "COMPLETED",
    }
    assert client.get("/v1/files").json() == {"data": [client.get(f"/v1/files/{file_id}").json()]}
    assert client.delete(f"/v1/files/{file_id}").json() == {"id": file_id, "deleted": True}


def test_content_that_is_not_what_was_announced_is_refused(client):
    """The checksum is verified: a damaged upload is an error, and can be repeated."""
    location = announce(client, b'{"a":1}').headers["location"]
    damaged = httpx2.put(location, content=b'{"a":2}')
    assert damaged.status_code == 400
    assert hashlib.sha256(b'{"a":2}').hexdigest() in damaged.json()["error"]["message"]
    assert httpx2.put(location, content=b'{"a":1}').status_code == 200


def test_a_url_without_its_signature_takes_nothing(client):
    """A client that loses the query of the presigned URL learns it."""
    location = announce(client).headers["location"]
    assert httpx2.put(location.partition("?")[0], content=b"").status_code == 403


def test_a_file_without_content_cannot_be_read_or_processed(client):
    """Between the steps there is a file, and nothing in it yet."""
    file_id = announce(client).headers["x-together-file-id"]
    content = client.get(f"/v1/files/{file_id}/content")
    preprocess = client.post(f"/v1/files/{file_id}/preprocess")
    assert (content.status_code, preprocess.status_code) == (404, 400)
    assert "upload it first" in content.json()["error"]["message"]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/files/file-none"),
        ("GET", "/v1/files/file-none/content"),
        ("DELETE", "/v1/files/file-none"),
        ("POST", "/v1/files/file-none/preprocess"),
    ],
)
def test_a_file_that_is_not_there_is_a_404(client, method, path):
    """Whatever is done with an unknown id, the answer names it."""
    response = client.request(method, path)
    assert response.status_code == 404
    assert response.json()["error"]["message"] == "File file-none not found."


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"purpose": "no-such"}, "purpose"),
        ({"file_type": "docx"}, "file_type"),
        ({"file_name": ""}, "file_name"),
    ],
)
def test_an_upload_that_cannot_be_is_refused_at_its_first_step(client, changes, param):
    """A 400 says which field is wrong."""
    response = announce(client, **changes)
    assert (response.status_code, response.json()["error"]["param"]) == (400, param)
    assert client.get("/v1/files").json() == {"data": []}


def test_files_need_a_key(together):
    """Everything but the presigned URL asks for the key."""
    for method, path in [("GET", "/v1/files"), ("POST", "/v1/files"), ("DELETE", "/v1/files/a")]:
        response = httpx2.request(method, together.base_url + path)
        assert (response.status_code, response.json()["error"]["code"]) == (401, "invalid_api_key")


def test_a_form_with_the_file_in_it_is_an_upload_in_one_step(client):
    """The published endpoint takes purpose, name and file at once."""
    parts = {"file": ("x.csv", b"a,b\n1,2\n"), **form(**FORM | {"file_type": "csv"})}
    file = client.post("/v1/files/upload", files=parts).json()
    assert (file["filename"], file["FileType"], file["Processed"]) == ("a.jsonl", "csv", True)
    content = client.get(f"/v1/files/{file['id']}/content")
    assert (content.content, content.headers["content-type"]) == (b"a,b\n1,2\n", "text/plain")
    missing = client.post("/v1/files/upload", files=form(**FORM))
    assert (missing.status_code, missing.json()["error"]["param"]) == (400, "file")


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b'{"a":1}\nnot json\n', "Line 2 is no JSON object."),
        (b"[1]\n", "Line 1 is no JSON object."),
        (b"\xff\n", "Line 1 is no JSON object."),
        (b"[" * 200_000, "Line 1 is no JSON object."),
        (b"", "The file is empty."),
    ],
)
def test_a_dataset_that_is_none_is_reported(client, storage, content, error):
    """A file to train or evaluate with says after its upload what is wrong in it."""
    file = upload(client, storage, content).json()
    assert (file["processing_status"], file["Processed"]) == ("INVALID_FORMAT", False)
    report = file["validation_report"]
    assert (report["valid"], report["error_type"]) == (False, "INVALID_FORMAT")
    assert report["error"] == error


@settings(
    max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
@given(content=st.binary())
def test_what_is_uploaded_is_what_is_read(client, storage, content):
    """Any bytes come back as they were, whichever way they went up."""
    stepwise = upload(client, storage, content, file_type="parquet").json()
    parts = {"file": ("x", content), **form(**FORM | {"file_type": "parquet"})}
    at_once = client.post("/v1/files/upload", files=parts).json()
    for file in (stepwise, at_once):
        assert file["bytes"] == len(content)
        assert client.get(f"/v1/files/{file['id']}/content").content == content
        assert client.delete(f"/v1/files/{file['id']}").json()["deleted"]


@pytest.fixture
def small_parts(monkeypatch):
    """The SDK takes small files for large ones, and cuts them into parts of 1 KiB."""
    monkeypatch.setattr(sdk_files, "MULTIPART_THRESHOLD_GB", 0)
    monkeypatch.setattr(sdk_files, "TARGET_PART_SIZE_MB", 1 / 1024)
    monkeypatch.setattr(sdk_files, "MIN_PART_SIZE_MB", 0)


@pytest.mark.usefixtures("small_parts")
def test_the_sdk_uploads_in_parts(together, sdk, tmp_path):
    """A file above the SDK's limit comes in parts, several at once, and is whole in the end."""
    path = tmp_path / "large.jsonl"
    path.write_bytes(b"".join(b'{"text":"%d"}\n' % number for number in range(500)))
    file = sdk.files.upload(path)
    puts = [request for request in together.requests if request.method == "PUT"]
    assert len(puts) == -(-path.stat().st_size // 1024)
    assert sdk.files.content(file.id).read() == path.read_bytes()
    assert sdk.files.upload(path).id == file.id
    assert file.processing_status == "COMPLETED"


@pytest.mark.usefixtures("small_parts")
async def test_the_async_sdk_uploads_in_parts(together, tmp_path):
    """AsyncTogether's parts are put together as well."""
    path = tmp_path / "large.jsonl"
    path.write_bytes(b"".join(b'{"text":"%d"}\n' % number for number in range(500)))
    async with AsyncTogether(api_key="any", base_url=together.base_url) as client:
        file = await client.files.upload(path)
        assert await (await client.files.content(file.id)).read() == path.read_bytes()


def initiate(client, content, **changes):
    """The beginning of an upload in parts."""
    digest = hashlib.sha256(content).hexdigest()
    body = {"file_size": len(content), "num_parts": 1, "checksum": digest}
    return client.post("/v1/files/multipart/initiate", json={**FORM, **body, **changes})


def test_parts_are_put_together_in_their_order(client):
    """Parts may come in any order; complete wants each with the ETag it got."""
    started = initiate(client, b'{"a":1}', num_parts=2).json()
    first, second = started["parts"]
    assert (first["PartNumber"], first["Headers"]) == (1, {})
    tags = [
        httpx2.put(part["URL"], content=content).headers["etag"]
        for part, content in [(second, b":1}"), (first, b'{"a"')]
    ][::-1]
    whole = {key: started[key] for key in ("upload_id", "file_id")}
    parts = [{"part_number": at, "etag": tag} for at, tag in enumerate(tags, 1)]
    for wrong in (None, parts[:1], parts[::-1], [*parts, parts[0]], [{**parts[0], "etag": "x"}]):
        refused = client.post("/v1/files/multipart/complete", json=whole | {"parts": wrong})
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, "parts")
    file = client.post("/v1/files/multipart/complete", json=whole | {"parts": parts}).json()
    assert (file["id"], file["bytes"]) == (started["file_id"], 7)
    assert client.get(f"/v1/files/{file['id']}/content").content == b'{"a":1}'
    again = client.post("/v1/files/multipart/complete", json=whole | {"parts": parts})
    assert again.status_code == 404


@pytest.mark.parametrize(
    ("changes", "param"), [({"file_size": 8}, "file_size"), ({"checksum": "0"}, "checksum")]
)
def test_parts_that_are_not_the_file_announced_are_refused(client, changes, param):
    """Size and checksum are verified when the parts are put together."""
    started = initiate(client, b'{"a":1}', **changes).json()
    tag = httpx2.put(started["parts"][0]["URL"], content=b'{"a":1}').headers["etag"]
    body = {key: started[key] for key in ("upload_id", "file_id")}
    body["parts"] = [{"part_number": 1, "etag": tag}]
    response = client.post("/v1/files/multipart/complete", json=body)
    assert (response.status_code, response.json()["error"]["param"]) == (400, param)


def test_a_missing_part_is_told(client):
    """Complete says how many parts have come."""
    started = initiate(client, b'{"a":1}', num_parts=2).json()
    body = {key: started[key] for key in ("upload_id", "file_id")} | {"parts": []}
    response = client.post("/v1/files/multipart/complete", json=body)
    assert response.json()["error"]["message"] == "0 of 2 parts are uploaded."


def test_an_aborted_upload_leaves_nothing(client):
    """After an abort there is no file, and its URLs take nothing more."""
    started = initiate(client, b'{"a":1}').json()
    body = {key: started[key] for key in ("upload_id", "file_id")}
    assert client.post("/v1/files/multipart/abort", json=body).status_code == 200
    assert client.get("/v1/files").json() == {"data": []}
    assert httpx2.put(started["parts"][0]["URL"], content=b"").status_code == 404
    assert client.post("/v1/files/multipart/abort", json=body).status_code == 404


@pytest.mark.parametrize(
    "changes",
    [
        {"num_parts": 0},
        {"num_parts": 251},
        {"file_size": 51 * 2**30},
        {"file_size": "7"},
        {"file_size": True},
        {"num_parts": True},
    ],
)
def test_an_upload_in_parts_has_limits(client, changes):
    """Too many parts, too many bytes and what is no number are refused."""
    response = initiate(client, b"x", **changes)
    assert (response.status_code, response.json()["error"]["param"]) == (400, next(iter(changes)))


def test_the_sdk_aborts_what_fails(together, sdk, tmp_path, small_parts, monkeypatch):
    """A failed upload in parts is given up by the SDK, and leaves no file."""
    path = tmp_path / "large.jsonl"
    path.write_bytes(b'{"text":"a"}\n' * 500)
    monkeypatch.setattr(sdk_files, "_calculate_file_checksum", lambda _: "0" * 64)
    with pytest.raises(APIStatusError, match="Failed to complete multipart upload"):
        sdk.files.upload(path)
    assert together.requests[-1].path == "/v1/files/multipart/abort"
    assert sdk.files.list().data == []


def test_a_new_server_has_no_files(sdk, dataset):
    """Files belong to one server and are on no disk."""
    sdk.files.upload(dataset)
    with LoopbackTogether() as other:
        client = Together(api_key="any", base_url=other.base_url)
        assert client.files.list().data == []
        client.close()
