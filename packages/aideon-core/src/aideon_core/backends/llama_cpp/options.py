"""How a model is loaded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

DEFAULT_PARALLEL: Final = 4
# On a CPU a longer piece of a prompt is read no faster, and holds up the others for longer.
_CPU_BATCH, _GPU_BATCH = 128, 512


@dataclass(frozen=True, slots=True)
class ModelOptions:
    """How to load a model.

    Attributes:
        path: the GGUF file.
        n_ctx: the context of one conversation, in tokens.
        n_batch: how many tokens of a prompt are read at once; what suits the device if None.
        n_threads: threads to compute with, the machine's cores if None.
        n_gpu_layers: layers to put on the GPU, -1 for all.
        main_gpu: the number of the GPU to use where there are several, None to spread over all.
        parallel: how many conversations are held in memory and answered at once; as many as
            are sensible for the model's size if None, four at most.
        reproducible: answers at temperature 0, or with a seed, do not depend on what else the
            model is doing, to the last bit.
        idle_seconds: the model leaves memory when nobody asked it for so long; never if None.
        max_queue: how many requests may wait besides those being answered, without limit if None.
        memory_limit: what the files of all models in memory may take together, in bytes;
            without limit if None.
    """

    path: Path
    n_ctx: int = 8192
    n_batch: int | None = None
    n_threads: int | None = None
    n_gpu_layers: int = 0
    main_gpu: int | None = None
    parallel: int | None = None
    reproducible: bool = True
    idle_seconds: float | None = None
    max_queue: int | None = None
    memory_limit: int | None = None

    @property
    def batch(self) -> int:
        """How many tokens of a prompt are read at once."""
        return self.n_batch or (_GPU_BATCH if self.n_gpu_layers else _CPU_BATCH)
