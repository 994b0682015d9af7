"""Model files: the one a user names by its path, and what its header tells without loading it."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import IO, Final

from aideon_core.errors import NotGguf, UnknownModel

_MAGIC = b"GGUF"
_HEADER: Final = struct.Struct("<4sIQQ")
_SIZES: Final = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
_STRING, _ARRAY = 8, 9
_CONTEXT: Final = ".context_length"
_LONGEST_NAME: Final = 65_535


def gguf(path: str, *, hint: str) -> Path:
    """The file at a path, once its beginning was looked at.

    Args:
        path: of the file; ``~`` is the user's home.
        hint: what to give instead, where there is no file.

    Raises:
        UnknownModel: there is no file, or none that can be read.
        NotGguf: the file is something else.
    """
    file = Path(path).expanduser()
    try:
        with file.open("rb") as opened:
            magic = opened.read(len(_MAGIC))
    except OSError as error:
        raise UnknownModel(
            f"There is no model file at {path!r}: {error.strerror or error}.", hint=hint
        ) from error
    if magic != _MAGIC:
        raise NotGguf(
            f"{path!r} is not a GGUF file: it begins with {magic!r}.",
            hint="Give a model in llama.cpp's format; others have to be converted first.",
        )
    return file.resolve()


def trained_context(file: Path) -> int | None:
    """How many tokens the model in a file was trained to read, by its header.

    None where the header does not say, or there is no file that can be read: whoever loads
    it is told what is wrong with it.
    """
    try:
        with file.open("rb") as opened:
            _, _, _, count = _HEADER.unpack(opened.read(_HEADER.size))
            for _ in range(count):
                name, kind = _text(opened), _number(opened, 4)
                if name.endswith(_CONTEXT) and kind in _SIZES:
                    return _number(opened, _SIZES[kind])
                _skip(opened, kind)
    except (OSError, OverflowError, ValueError, KeyError, struct.error):
        return None
    return None


def _number(file: IO[bytes], size: int) -> int:
    read = file.read(size)
    if len(read) < size:
        raise ValueError("the header ends early")
    return int.from_bytes(read, "little")


def _text(file: IO[bytes]) -> str:
    length = _number(file, 8)
    if length > _LONGEST_NAME:
        raise ValueError("no key has such a name")
    return file.read(length).decode("utf-8")


def _skip(file: IO[bytes], kind: int) -> None:
    if kind == _STRING:
        file.seek(_number(file, 8), 1)
    elif kind == _ARRAY:
        kind, count = _number(file, 4), _number(file, 8)
        if kind == _STRING:
            for _ in range(count):
                _skip(file, kind)
        else:
            file.seek(_SIZES[kind] * count, 1)
    else:
        file.seek(_SIZES[kind], 1)
