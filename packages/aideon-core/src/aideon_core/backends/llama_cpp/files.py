"""Model files that a user names by their path."""

from __future__ import annotations

from pathlib import Path

from aideon_core.errors import NotGguf, UnknownModel

_MAGIC = b"GGUF"


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
