"""The file that grows while a model is pulled."""

from __future__ import annotations

import errno
import os
import shutil
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

from aideon_core.errors import PullFailed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

Progress: TypeAlias = "Callable[[int, int], None]"
"""Called with the bytes there and the bytes in all (0 while unknown); neither ever shrinks."""

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_MEGABYTE = 1_000_000


@dataclass(slots=True)
class Partial:
    """The first ``size`` bytes of a model's file, whoever brought them.

    All sources fill the same file, so one carries on where another stopped. ``total`` is
    the size in bytes it will have, ``None`` while unknown. ``verified`` says that the whole
    will be held against a known hash: only then may bytes of an earlier run be kept
    without asking whether the source has changed since.
    """

    path: Path
    total: int | None
    verified: bool
    progress: Progress | None = None
    _seen: int = field(default=0, init=False)

    @property
    def size(self) -> int:
        """Bytes on disk now, 0 if there is no file yet."""
        return self.path.stat().st_size if self.path.exists() else 0

    @property
    def version(self) -> str:
        """The source's own mark (an ETag) for the bytes here, empty if it gave none."""
        mark = self._mark
        return mark.read_text(encoding="utf-8") if mark.exists() else ""

    @version.setter
    def version(self, version: str) -> None:
        self._mark.write_text(version, encoding="utf-8")

    @property
    def _mark(self) -> Path:
        return self.path.with_name(f"{self.path.name}.etag")

    def reserve(self, *, besides: int = 0) -> None:
        """Check that the disk takes the rest of the file and ``besides`` more bytes.

        Raises:
            PullFailed: it does not; the message says how much is missing.
        """
        if (missing := self._missing(besides)) > 0:
            raise self._disk_full(missing)

    def fill(self, at: int, chunks: Iterable[bytes]) -> None:
        """Write ``chunks`` from byte ``at`` on, dropping what was there behind it.

        Raises:
            PullFailed: the disk is full, and what was written stays for the next run; or there
                are more chunks than the whole has bytes.
        """
        try:
            with self.path.open("ab") as file:
                file.truncate(at)
                for chunk in chunks:
                    at += len(chunk)
                    if self.total is not None and at > self.total:
                        raise PullFailed(f"sent more than the {self.total:,} bytes expected.")
                    file.write(chunk)
                    self.report(at)
        except OSError as error:
            if error.errno not in _FULL:
                raise
            raise self._disk_full(max(self._missing(), 1)) from error

    def report(self, done: int) -> None:
        """Tell the caller how far it is; starting over does not move the bar back."""
        self._seen = max(self._seen, done)
        if self.progress:
            self.progress(self._seen, self.total or 0)

    def flush(self) -> None:
        """Make the bytes survive a power cut."""
        with self.path.open("rb+") as file:
            os.fsync(file.fileno())

    def discard(self) -> None:
        """Delete what is there; the next byte is the first."""
        self.path.unlink(missing_ok=True)
        self._mark.unlink(missing_ok=True)

    def _missing(self, besides: int = 0) -> int:
        wanted = max((self.total or 0) - self.size, 0) + besides
        return wanted - shutil.disk_usage(self.path.parent).free

    def _disk_full(self, missing: int) -> PullFailed:
        megabytes = -(-missing // _MEGABYTE)
        return PullFailed(f"the disk is full: {self.path.parent} lacks {megabytes:,} MB.")
