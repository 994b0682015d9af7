"""``/v1/files/multipart``: uploads in parts, as the SDK does them above 5 GiB.

Parts of any size are taken, so a small file can stand for a large one.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from aideon_testing import responses
from aideon_testing.endpoints.files import found
from aideon_testing.endpoints.uploads import (
    announced,
    check_presigned,
    etag,
    presigned,
    receive,
    refuse_uploaded,
)
from aideon_testing.faults import Failure
from aideon_testing.routes import Route

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aideon_core.types import Json
    from aideon_testing.connection import HttpResponse
    from aideon_testing.endpoints.file_store import FileStore, StoredFile
    from aideon_testing.routes import Call

_MAX_PARTS: Final = 250
_MAX_BYTES: Final = int(50.1 * 2**30)


@dataclass(slots=True)
class _Upload:
    file: StoredFile
    size: int
    num_parts: int
    parts: dict[int, bytes] = field(default_factory=dict)


class PartUploads:
    """Uploads in parts.

    Args:
        store: where the files go.
    """

    def __init__(self, store: FileStore) -> None:
        self._store = store
        self._uploads: dict[str, _Upload] = {}

    def routes(self) -> Sequence[Route]:
        """The routes of this endpoint."""
        return (
            Route("POST", "/v1/files/multipart/initiate", self._initiate),
            Route("PUT", "/uploads/{id}/{part}", self._put, refusal=None, limited=False),
            Route("POST", "/v1/files/multipart/complete", self._complete),
            Route("POST", "/v1/files/multipart/abort", self._abort),
        )

    async def _initiate(self, call: Call) -> HttpResponse:
        body = call.json()
        file = announced(call, body.get)
        size = _count(body, "file_size", _MAX_BYTES)
        num_parts = _count(body, "num_parts", _MAX_PARTS)
        refuse_uploaded(self._store, file)
        self._store.add(file)
        upload_id = str(uuid.uuid4())
        self._uploads[upload_id] = _Upload(file, size, num_parts)
        parts = [
            {
                "PartNumber": number,
                "URL": presigned(call.request, f"/uploads/{upload_id}/{number}"),
                "Headers": {},
            }
            for number in range(1, num_parts + 1)
        ]
        return responses.listed({"upload_id": upload_id, "file_id": file.id, "parts": parts})

    async def _put(self, call: Call) -> HttpResponse:
        check_presigned(call.request)
        upload_id, number = call.parts["id"], int(call.parts["part"])
        if upload_id not in self._uploads:
            raise Failure.error(404, f"Upload {upload_id} is over: initiate another.")
        self._uploads[upload_id].parts[number] = call.request.content
        return responses.whole(200, {"etag": etag(call.request.content)}, b"")

    async def _complete(self, call: Call) -> HttpResponse:
        body = call.json()
        upload = self._find(body)
        file = found(self._store, upload.file.id)
        _check_parts(upload, body.get("parts"))
        content = b"".join(upload.parts[number] for number in sorted(upload.parts))
        if len(content) != upload.size:
            message = f"The parts are {len(content)} bytes; announced were {upload.size}."
            raise Failure.error(400, message, param="file_size")
        receive(file, content)
        file.process()
        del self._uploads[body["upload_id"]]
        return responses.listed(file.row())

    async def _abort(self, call: Call) -> HttpResponse:
        body = call.json()
        file = self._find(body).file
        del self._uploads[body["upload_id"]]
        if self._store.get(file.id) is not None:
            self._store.remove(file.id)
        return responses.listed({})

    def _find(self, body: Json) -> _Upload:
        upload_id, file_id = body.get("upload_id"), body.get("file_id")
        upload = self._uploads.get(upload_id) if isinstance(upload_id, str) else None
        if upload is None or upload.file.id != file_id:
            raise Failure.error(404, f"There is no upload {upload_id!r} of file {file_id!r}.")
        return upload


def _check_parts(upload: _Upload, parts: object) -> None:
    """Refuse to put together what is not what the client believes it sent."""
    if len(upload.parts) != upload.num_parts:
        message = f"{len(upload.parts)} of {upload.num_parts} parts are uploaded."
        raise Failure.error(400, message, param="parts")
    # Some clients leave the quotes around an ETag, and some take them away.
    given = [
        (part.get("part_number"), str(part.get("etag")).strip('"'))
        for part in (parts if isinstance(parts, list) else ())
        if isinstance(part, dict)
    ]
    stored = sorted((number, etag(part).strip('"')) for number, part in upload.parts.items())
    if given != stored:
        message = "parts must give every part_number once, in order, with the ETag it got."
        raise Failure.error(400, message, param="parts")


def _count(body: Json, name: str, largest: int) -> int:
    value = body.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= largest:
        message = f"{name} is {value!r}; it must be a number from 1 to {largest}."
        raise Failure.error(400, message, param=name)
    return value
