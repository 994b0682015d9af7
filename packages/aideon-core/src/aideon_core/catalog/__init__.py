"""Local models by name: which ones are known, where they live, how they are pulled."""

from aideon_core.catalog.models import BY_ID, MODELS, ModelFile, find
from aideon_core.catalog.pulling import pull
from aideon_core.catalog.sources import HuggingFace, LocalFile, Source, Url
from aideon_core.catalog.store import is_pulled, path, remove
from aideon_core.catalog.wheels import Wheels

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
