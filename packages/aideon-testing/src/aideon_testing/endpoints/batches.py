"""``/v1/batches``: many requests in a file, answered as one job.

Time does not pass between two looks at a job, so tests need not wait for it. The first look,
by retrieving or by listing, validates it; the next answers the lines, in the order of the
file, by the same endpoints that answer single requests. A look waits a second at most: what
answers slowly, such as a model, goes on by itself while the job says how far it is.
"""

from __future__ import annotations

import asyncio
import itertools
import time
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from typing import TYPE_CHECKING, Final

from aideon_testing import responses, wire
from aideon_testing.endpoints.batch_lines import ENDPOINTS, Line, outcome, read
from aideon_testing.endpoints.file_store import StoredFile
from aideon_testing.faults import Failure
from aideon_testing.routes import Route

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from aideon_core.types import Json
    from aideon_testing.connection import HttpResponse
    from aideon_testing.endpoints.file_store import FileStore
    from aideon_testing.interception import Proceed
    from aideon_testing.routes import Call

_WINDOW: Final = "24h"
_WINDOW_SECONDS: Final = 24 * 60 * 60
_PATIENCE_SECONDS: Final = 1
# Ids of seven characters, which those of the server's own responses never reach.
_FIRST_NUMBER: Final = 36**6


@dataclass(slots=True)
class _Job:
    input: StoredFile
    endpoint: str
    created: float
    headers: Mapping[str, str]
    model: str | None
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    status: str = "VALIDATING"
    lines: list[Line] = field(default_factory=list)
    outcomes: list[Json] = field(default_factory=list)
    error: str | None = None
    ended: float | None = None
    files: dict[str, str] = field(default_factory=dict)
    work: asyncio.Task[None] | None = None

    @property
    def deadline(self) -> float:
        return self.created + _WINDOW_SECONDS

    def end(self, status: str, now: float) -> None:
        self.status, self.ended = status, now
        if self.work is not None:
            self.work.cancel()

    def row(self) -> dict[str, object]:
        """What the API says of the job; what is not known yet is not there."""
        key = self.headers.get("authorization", "")
        row: dict[str, object] = {
            "id": self.id,
            "user_id": f"user_{sha256(key.encode()).hexdigest()[:16]}",
            "input_file_id": self.input.id,
            "file_size_bytes": len(self.input.content or b""),
            "status": self.status,
            "job_deadline": _moment(self.deadline),
            "created_at": _moment(self.created),
            "endpoint": self.endpoint,
            "progress": 100 * len(self.outcomes) / len(self.lines) if self.lines else 0.0,
        }
        models = (self.model, *(line.body.get("model") for line in self.lines[:1]))
        model = next((model for model in models if isinstance(model, str)), None)
        known = {"model_id": model, **self.files, "error": self.error}
        row |= {name: value for name, value in known.items() if value is not None}
        return row if self.ended is None else row | {"completed_at": _moment(self.ended)}


class Batches:
    """Batch jobs.

    Args:
        store: where input files are, and where output and error files go.
        perform: answers the lines.
    """

    def __init__(self, store: FileStore, perform: Proceed) -> None:
        self._store = store
        self._perform = perform
        self._jobs: dict[str, _Job] = {}
        self._numbers = itertools.count(_FIRST_NUMBER)

    def routes(self) -> Sequence[Route]:
        """The routes of this endpoint."""
        return (
            Route("POST", "/v1/batches", self._create, _unauthorized),
            Route("GET", "/v1/batches", self._list, _unauthorized),
            Route("GET", "/v1/batches/{id}", self._retrieve, _unauthorized),
            Route("POST", "/v1/batches/{id}/cancel", self._cancel, _unauthorized),
        )

    async def _create(self, call: Call) -> HttpResponse:
        if (body := call.request.body) is None:
            raise _refused(400, "The body is no JSON object.")
        endpoint, window = body.get("endpoint"), body.get("completion_window")
        model = body.get("model_id")
        if endpoint not in ENDPOINTS:
            raise _refused(400, f"endpoint is {endpoint!r}; use one of {', '.join(ENDPOINTS)}.")
        if window not in (None, _WINDOW):
            raise _refused(400, f"completion_window is {window!r}; only {_WINDOW!r} is served.")
        if not isinstance(model, str | None):
            raise _refused(400, "model_id is not a text.")
        asked = call.request.headers
        headers = {name: asked[name] for name in ("authorization", "host") if name in asked}
        job = _Job(self._input(body), endpoint, call.stamp.created, headers, model)
        self._jobs[job.id] = job
        return responses.listed({"job": job.row()}, status=201)

    async def _list(self, call: Call) -> HttpResponse:
        jobs = list(self._jobs.values())
        for job in jobs:
            await self._look(job, call.stamp.created)
        return responses.listed([job.row() for job in jobs])

    async def _retrieve(self, call: Call) -> HttpResponse:
        job = self._find(call)
        await self._look(job, call.stamp.created)
        return responses.listed(job.row())

    async def _cancel(self, call: Call) -> HttpResponse:
        job = self._find(call)
        if job.ended is not None:
            raise _refused(400, f"Batch {job.id} is {job.status} and cannot be cancelled.")
        job.end("CANCELLED", call.stamp.created)
        return responses.listed(job.row())

    def _input(self, body: Json) -> StoredFile:
        file_id = body.get("input_file_id")
        file = self._store.get(file_id) if isinstance(file_id, str) else None
        if file is None or file.content is None:
            raise _refused(400, f"There is no uploaded file {file_id!r}.")
        if file.purpose != "batch-api":
            message = (
                f"File {file.id} was uploaded for {file.purpose!r}; upload it for 'batch-api'."
            )
            raise _refused(400, message)
        return file

    def _find(self, call: Call) -> _Job:
        if (job := self._jobs.get(call.parts["id"])) is None:
            raise _refused(404, f"Batch {call.parts['id']} not found.")
        return job

    async def _look(self, job: _Job, now: float) -> None:
        """Take a job one step on."""
        if job.ended is not None:
            return
        if now >= job.deadline:
            job.end("EXPIRED", now)
        elif job.status == "VALIDATING":
            _validate(job, now)
        else:
            if job.work is None or job.work.done():
                job.work = asyncio.create_task(self._work(job))
            await asyncio.wait({job.work}, timeout=_PATIENCE_SECONDS)

    async def _work(self, job: _Job) -> None:
        for line in job.lines[len(job.outcomes) :]:
            job.outcomes.append(await outcome(line.custom_id, self._answer(job, line)))
            # An answerer that never waits must leave the other connections their turn.
            await asyncio.sleep(0)
        now = time.time()
        self._publish(job, "output", [row for row in job.outcomes if "response" in row], now)
        self._publish(job, "error", [row for row in job.outcomes if "error" in row], now)
        job.status, job.ended = "COMPLETED", now

    async def _answer(self, job: _Job, line: Line) -> HttpResponse:
        stamp = wire.Stamp(wire.response_id(next(self._numbers)), time.time())
        return await self._perform(line.request(job.endpoint, job.model, job.headers), stamp)

    def _publish(self, job: _Job, kind: str, rows: Sequence[Json], now: float) -> None:
        if not rows:
            return
        file = StoredFile(f"{job.id}_{kind}.jsonl", "batch-generated", "jsonl", now)
        file.receive(b"".join(wire.compact(row) + b"\n" for row in rows))
        file.process()
        self._store.add(file)
        job.files[f"{kind}_file_id"] = file.id


def _validate(job: _Job, now: float) -> None:
    try:
        job.lines = read(job.input.content or b"")
    except ValueError as error:
        job.error = str(error)
        job.end("FAILED", now)
    else:
        job.status = "IN_PROGRESS"


def _unauthorized() -> Failure:
    return _refused(401, "Unauthorized")


def _refused(status: int, message: str) -> Failure:
    return Failure(status, {"error": message})


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(int(seconds), UTC).isoformat().replace("+00:00", "Z")
