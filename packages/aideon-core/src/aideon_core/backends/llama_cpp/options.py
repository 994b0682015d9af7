"""How a model is loaded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class ModelOptions:
    """How to load a model: ``n_ctx`` and ``n_batch`` in tokens, ``n_gpu_layers`` -1 for all."""

    path: Path
    n_ctx: int = 8192
    n_batch: int = 512
    n_threads: int | None = None
    n_gpu_layers: int = 0
