"""Where model files live: ``<home>/models/<first 16 hex of the SHA-256>/<file name>``.

A file gets its final name only after its hash was checked, so the name is the proof.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from aideon_core.catalog.models import ModelFile
    from aideon_core.catalog.partial import Partial

_POLL_SECONDS = 0.2


def path(home: Path, model: ModelFile) -> Path:
    """Where the model's file is once it is pulled."""
    return folder(home, model.sha256) / model.file


def folder(home: Path, sha256: str) -> Path:
    """The folder of the file that has this hash."""
    return home / "models" / sha256[:16]


def is_pulled(home: Path, model: ModelFile) -> bool:
    """Whether the model can be loaded; one ``stat``, so it may be asked for every request."""
    return is_complete(path(home, model), model.size)


def is_complete(file: Path, size: int | None) -> bool:
    """Whether the file has its final name and, where it is known, its ``size`` in bytes."""
    try:
        found = file.stat().st_size
    except (FileNotFoundError, NotADirectoryError):
        return False
    return size is None or found == size


def remove(home: Path, model: ModelFile) -> bool:
    """Delete the model's file, or what an interrupted pull left of it.

    Waits for a pull of the same model that is running. A process that has the model loaded
    keeps it.

    Returns:
        Whether there was anything to delete.
    """
    here = path(home, model).parent
    if not here.exists():
        return False
    with locked(here):
        shutil.rmtree(here)
    return True


def place(partial: Partial, final: Path) -> Path:
    """Give a checked file its final name, at once and for good."""
    partial.flush()
    final.parent.mkdir(parents=True, exist_ok=True)
    partial.path.replace(final)
    partial.discard()
    if sys.platform != "win32":
        # The rename itself lives in the folder, which is flushed on its own.
        descriptor = os.open(final.parent, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    return final


@contextmanager
def locked(here: Path, waiting: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Keep other processes out of a model's folder; the system lets go if this one dies.

    Args:
        here: the folder, which need not exist yet.
        waiting: called about five times a second while another process holds the lock.
    """
    locks = here.parent / ".locks"
    locks.mkdir(parents=True, exist_ok=True)
    # The lock file stays: deleting it would let two processes lock two files of one name.
    with (locks / here.name).open("ab") as file:
        while not _try_lock(file.fileno()):
            waiting()
            time.sleep(_POLL_SECONDS)
        yield


if sys.platform == "win32":
    import msvcrt

    def _try_lock(descriptor: int) -> bool:
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except PermissionError:
            return False
        return True

else:
    import fcntl

    def _try_lock(descriptor: int) -> bool:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
