"""Local models by name: which ones are known, where they live, how they are pulled."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aideon_core.catalog.models import BY_ID, MODELS, ModelFile, find
from aideon_core.catalog.sources import HuggingFace, LocalFile, Source, Url
from aideon_core.catalog.store import is_pulled, path, remove
from aideon_core.catalog.wheels import Wheels

if TYPE_CHECKING:
    from aideon_core.catalog.pulling import pull

__all__ = [
    "BY_ID",
    "MODELS",
    "HuggingFace",
    "LocalFile",
    "ModelFile",
    "Source",
    "Url",
    "Wheels",
    "find",
    "is_pulled",
    "path",
    "pull",
    "remove",
]


def __getattr__(name: str) -> object:
    # Programs that only ask a model import nothing of how one is fetched.
    if name != "pull":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from aideon_core.catalog.pulling import pull

    return pull


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
