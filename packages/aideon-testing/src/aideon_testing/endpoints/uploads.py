"""How files come: the together SDK's three steps, and a form with all in it.

The steps: a form without the file is answered by a redirect to a presigned URL; the content
is put there, without a key; then the file is processed.
"""

from __future__ import annotations

from hashlib import md5, sha256
from typing import TYPE_CHECKING

from aideon_testing import multipart, responses
from aideon_testing.endpoints.file_store import FILE_TYPES, PURPOSES, StoredFile
from aideon_testing.endpoints.files import found
from aideon_testing.faults import Failure
from aideon_testing.routes import Route

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from aideon_testing.connection import HttpRequest, HttpResponse
    from aideon_testing.endpoints.file_store import FileStore
    from aideon_testing.routes import Call


class Uploads:
    """Uploads in one piece.

    Args:
        store: where the files go.
    """

    def __init__(self, store: FileStore) -> None:
        self._store = store

    def routes(self) -> Sequence[Route]:
        """The routes of this endpoint."""
        return (
            Route("POST", "/v1/files", self._announce),
            Route("PUT", "/uploads/{id}", self._put, refusal=None, limited=False),
            Route("POST", "/v1/files/{id}/preprocess", self._preprocess),
            Route("POST", "/v1/files/upload", self._upload),
        )

    async def _announce(self, call: Call) -> HttpResponse:
        file = announced(call, _form(call).field)
        refuse_uploaded(self._store, file)
        self._store.add(file)
        location = presigned(call.request, f"/uploads/{file.id}")
        return responses.whole(302, {"location": location, "x-together-file-id": file.id}, b"")

    async def _put(self, call: Call) -> HttpResponse:
        check_presigned(call.request)
        file = found(self._store, call.parts["id"])
        receive(file, call.request.content)
        return responses.whole(200, {"etag": etag(call.request.content)}, b"")

    async def _preprocess(self, call: Call) -> HttpResponse:
        file = found(self._store, call.parts["id"])
        if file.content is None:
            raise Failure.error(400, f"File {file.id} has no content yet: upload it first.")
        file.process()
        return responses.listed(file.row())

    async def _upload(self, call: Call) -> HttpResponse:
        form = _form(call)
        if (part := form.file("file")) is None:
            raise Failure.missing("file")
        file = announced(call, form.field)
        receive(file, part.content)
        file.process()
        self._store.add(file)
        return responses.listed(file.row())


def announced(call: Call, field: Callable[[str], object]) -> StoredFile:
    """The file that a request is about to upload.

    Args:
        call: the request.
        field: the values it gives, by name.

    Raises:
        Failure: 400, it does not say enough, or what cannot be.
    """
    filename, purpose = field("file_name"), field("purpose")
    file_type, checksum = field("file_type"), field("checksum")
    if not isinstance(filename, str) or not filename:
        raise Failure.missing("file_name")
    if not isinstance(purpose, str):
        raise Failure.missing("purpose")
    if purpose not in PURPOSES:
        raise _not_one_of("purpose", purpose, PURPOSES)
    file_type = FILE_TYPES[0] if file_type is None else file_type
    if not isinstance(file_type, str) or file_type not in FILE_TYPES:
        raise _not_one_of("file_type", file_type, FILE_TYPES)
    if not isinstance(checksum, str | None):
        raise Failure.error(400, "checksum is not a text.", param="checksum")
    known = checksum.lower() if checksum else None
    return StoredFile(filename, purpose, file_type, call.stamp.created, known)


def refuse_uploaded(store: FileStore, file: StoredFile) -> None:
    """Refuse content that is here already.

    Raises:
        Failure: 409, with the id it has.
    """
    if file.checksum and (same := store.uploaded(file.checksum)) is not None:
        raise Failure(409, {"file_id": same.id})


def receive(file: StoredFile, content: bytes) -> None:
    """Give a file its content.

    Raises:
        Failure: 400, it is not the content announced.
    """
    try:
        file.receive(content)
    except ValueError as error:
        raise Failure.error(400, str(error), param="checksum") from error


def presigned(request: HttpRequest, path: str) -> str:
    """The URL of a path on this server that may be put to without a key.

    Raises:
        Failure: 400, the request does not say what the server is called.
    """
    if (host := request.headers.get("host")) is None:
        raise Failure.error(400, "Without a Host header there is no URL to upload to.")
    return f"http://{host}{path}?{_signature(path)}"


def check_presigned(request: HttpRequest) -> None:
    """Refuse a URL that no response gave.

    Raises:
        Failure: 403, the signature is missing or another's.
    """
    if request.query != _signature(request.path):
        message = "The signature of this URL is not right: use the URL as it was given."
        raise Failure(403, message)


def etag(content: bytes) -> str:
    """What a stored content answers to, as object stores have it."""
    return f'"{md5(content, usedforsecurity=False).hexdigest()}"'


def _signature(path: str) -> str:
    # Nothing here is secret; it shows when a client loses the query of a URL.
    return f"signature={sha256(path.encode()).hexdigest()}"


def _form(call: Call) -> multipart.Form:
    request = call.request
    return multipart.parse(request.headers.get("content-type", ""), request.content)


def _not_one_of(param: str, value: object, choices: Sequence[str]) -> Failure:
    message = f"{param} is {value!r}; it must be one of {', '.join(choices)}."
    return Failure.error(400, message, param=param)
