"""The files a server keeps: in memory, and gone with it."""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aideon_core.types import Json

PURPOSES: Final = (
    "fine-tune",
    "calibration",
    "eval",
    "eval-sample",
    "eval-output",
    "eval-summary",
    "batch-api",
    "batch-generated",
)
"""What a file may be for: the published purposes, and those of the together SDK."""

FILE_TYPES: Final = ("jsonl", "csv", "parquet")
"""What a file may be."""

# The purposes whose files are read before they may be used.
_VALIDATED: Final = ("fine-tune", "calibration", "eval")


def checksum(content: bytes) -> str:
    """The SHA-256 that goes with a content, in hexadecimal."""
    return sha256(content).hexdigest()


@dataclass(slots=True)
class StoredFile:
    """One file, known from the moment its upload is asked for.

    Attributes:
        filename: as the client calls it.
        purpose: one of PURPOSES.
        file_type: one of FILE_TYPES.
        created: in seconds since 1970.
        checksum: of the content; ``None`` when the client has not said, and there is none yet.
        content: ``None`` until it is uploaded.
        status: of the processing that follows the upload.
        report: what was found in it; ``None`` for files that are not validated.
        id: what requests call it.
    """

    filename: str
    purpose: str
    file_type: str
    created: float
    checksum: str | None = None
    content: bytes | None = None
    status: str = "PENDING"
    report: Json | None = None
    id: str = field(default_factory=lambda: f"file-{uuid.uuid4()}")

    def receive(self, content: bytes) -> None:
        """Take the content.

        Raises:
            ValueError: it has another checksum than the one announced.
        """
        actual = checksum(content)
        if self.checksum not in (None, actual):
            raise ValueError(f"The content's SHA-256 is {actual}; announced was {self.checksum}.")
        self.content, self.checksum = content, actual

    def process(self) -> None:
        """Do what follows an upload: read what has a format, and say what was found."""
        assert self.content is not None
        self.status = "COMPLETED"
        if self.file_type == "jsonl" and self.purpose in _VALIDATED:
            self.report = {"file_id": self.id, **_report(self.content)}
            if not self.report["valid"]:
                self.status = "INVALID_FORMAT"

    def row(self) -> dict[str, object]:
        """What the API says of the file: in the published form and in the SDK's at once."""
        row: dict[str, object] = {
            "id": self.id,
            "object": "file",
            "created_at": int(self.created),
            "filename": self.filename,
            "bytes": len(self.content or b""),
            "purpose": self.purpose,
            "FileType": self.file_type,
            "Processed": self.status == "COMPLETED",
            "processing_status": self.status,
        }
        if self.report is not None:
            row["validation_report"] = self.report
        return row


class FileStore:
    """The files by their ids, in the order they came."""

    def __init__(self) -> None:
        self._files: dict[str, StoredFile] = {}

    def __iter__(self) -> Iterator[StoredFile]:
        """All files, those still to be uploaded included."""
        return iter(self._files.values())

    def add(self, file: StoredFile) -> None:
        """Keep a file."""
        self._files[file.id] = file

    def get(self, file_id: str) -> StoredFile | None:
        """The file of an id."""
        return self._files.get(file_id)

    def remove(self, file_id: str) -> None:
        """Forget a file that is there."""
        del self._files[file_id]

    def uploaded(self, checksum: str) -> StoredFile | None:
        """A file that is here already with this content."""
        present = (file for file in self if file.content is not None)
        return next((file for file in present if file.checksum == checksum), None)


def _report(content: bytes) -> Json:
    lines = content.splitlines()
    for number, line in enumerate(lines, start=1):
        if not _is_object(line):
            return _invalid(f"Line {number} is no JSON object.", len(lines))
    return {"valid": True, "nlines": len(lines)} if lines else _invalid("The file is empty.", 0)


def _invalid(error: str, nlines: int) -> Json:
    return {"valid": False, "error": error, "error_type": "INVALID_FORMAT", "nlines": nlines}


def _is_object(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False
