"""What a tool gave, or how it failed, as text for a model."""

from __future__ import annotations

from typing import Final

_LONGEST_FAILURE: Final = 1000


def text_of(result: object) -> str:
    """A result as text: text as it is, everything else as JSON.

    Models, dataclasses, dates, decimals and the like are written as pydantic writes them;
    what it does not know, as ``str`` does.

    Raises:
        ValueError: it contains itself.
    """
    if not isinstance(result, str):
        from pydantic_core import to_json

        return to_json(result, bytes_mode="base64", inf_nan_mode="constants", fallback=str).decode()
    # Half a character cannot be sent.
    return result.encode("utf-8", "replace").decode()


def failure(error: Exception) -> str:
    """How a tool failed: the error's type and its text, without what a model cannot use."""
    text = f"{type(error).__name__}: {error}"
    if len(text) > _LONGEST_FAILURE:
        text = f"{text[: _LONGEST_FAILURE - 3]}..."
    return text_of(text)
