"""What this machine has for a model: memory, a compiler, and GPUs, whoever can use them."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

_CGROUP: Final = Path("/sys/fs/cgroup/memory.max")
_COMPILERS: Final = ("c++", "g++", "clang++", "cl")


@dataclass(frozen=True, slots=True)
class Gpu:
    """A kind of GPU, and how llama-cpp-python is built for it.

    Attributes:
        title: for messages.
        is_here: whether this machine seems to have one.
        cmake_args: what the build needs.
        needs: what else has to be installed.
    """

    title: str
    is_here: Callable[[], bool]
    cmake_args: str
    needs: str


def _has_nvidia() -> bool:
    return Path("/dev/nvidia0").exists() or shutil.which("nvidia-smi") is not None


def _has_amd() -> bool:
    return Path("/dev/kfd").exists()


def _has_apple() -> bool:
    return sys.platform == "darwin" and platform.machine() == "arm64"


def _has_any() -> bool:
    return Path("/dev/dri/renderD128").exists()


GPUS: Final = (
    Gpu("NVIDIA GPU", _has_nvidia, "-DGGML_CUDA=on", "the CUDA toolkit (nvcc)"),
    Gpu("Apple GPU", _has_apple, "-DGGML_METAL=on", "Xcode's command line tools"),
    Gpu("AMD GPU", _has_amd, "-DGGML_HIP=on", "ROCm"),
    Gpu("GPU", _has_any, "-DGGML_VULKAN=on", "the Vulkan SDK (glslc)"),
)
"""The kinds there are, the most particular first."""


def gpu() -> Gpu | None:
    """The kind of GPU in this machine, None when no sign of one is seen."""
    return next((each for each in GPUS if each.is_here()), None)


def memory() -> int | None:
    """The bytes that this process may use at most, None where the system does not tell."""
    limits: list[int] = []
    with suppress(AttributeError, ValueError, OSError):
        limits.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    # A container's limit; "max" is none.
    with suppress(ValueError, OSError):
        limits.append(int(_CGROUP.read_text()))
    return min(limits, default=None)


def compiler() -> str | None:
    """The C++ compiler on the PATH, None when there is none."""
    return next((each for each in _COMPILERS if shutil.which(each)), None)
