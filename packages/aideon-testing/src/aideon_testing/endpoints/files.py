"""``/v1/files``: what there is, its content, and its end; uploads are in ``uploads``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aideon_testing import responses, wire
from aideon_testing.faults import Failure
from aideon_testing.routes import Route

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aideon_testing.connection import HttpResponse
    from aideon_testing.endpoints.file_store import FileStore, StoredFile
    from aideon_testing.routes import Call


class Files:
    """The files of a store, as the API shows them.

    Args:
        store: where they are.
    """

    def __init__(self, store: FileStore) -> None:
        self._store = store

    def routes(self) -> Sequence[Route]:
        """The routes of this endpoint."""
        return (
            Route("GET", "/v1/files", self._list),
            Route("GET", "/v1/files/{id}", self._retrieve),
            Route("GET", "/v1/files/{id}/content", self._content),
            Route("DELETE", "/v1/files/{id}", self._delete),
        )

    async def _list(self, _: Call) -> HttpResponse:
        return responses.listed({"data": [file.row() for file in self._store]})

    async def _retrieve(self, call: Call) -> HttpResponse:
        return responses.listed(found(self._store, call.parts["id"]).row())

    async def _content(self, call: Call) -> HttpResponse:
        file = found(self._store, call.parts["id"])
        if file.content is None:
            raise Failure.error(404, f"File {file.id} has no content yet: upload it first.")
        headers = wire.web_headers(file.content) | {"content-type": "text/plain"}
        return responses.whole(200, headers, file.content)

    async def _delete(self, call: Call) -> HttpResponse:
        file = found(self._store, call.parts["id"])
        self._store.remove(file.id)
        return responses.listed({"id": file.id, "deleted": True})


def found(store: FileStore, file_id: str) -> StoredFile:
    """The file of an id.

    Raises:
        Failure: 404, there is none.
    """
    if (file := store.get(file_id)) is None:
        raise Failure.error(404, f"File {file_id} not found.")
    return file
