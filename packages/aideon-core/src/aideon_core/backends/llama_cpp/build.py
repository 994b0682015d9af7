"""What the installed build of llama.cpp can use: the processor's features, and devices."""

from __future__ import annotations

import ctypes
import json
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from typing import Any, Final

from aideon_core.errors import MissingDependency

_SECONDS: Final = 60
_GPU_KINDS: Final = (1, 2)  # GGML_BACKEND_DEVICE_TYPE_GPU and _IGPU

REBUILD: Final = "pip install --force-reinstall --no-cache-dir llama-cpp-python"
"""What builds llama-cpp-python anew, on this machine and for it."""


@dataclass(frozen=True, slots=True)
class Device:
    """Something to compute on; ``free`` and ``total`` are its memory in bytes."""

    name: str
    description: str
    is_gpu: bool
    free: int
    total: int


@dataclass(frozen=True, slots=True)
class Build:
    """What a build of llama.cpp can use on this machine.

    Attributes:
        version: of llama-cpp-python.
        features: by the names of what they belong to, ``"CPU"`` or ``"CUDA"``, what it was built
            to use.
        offloads: whether layers can be put on a GPU.
        devices: what there is to compute on; empty where the library does not tell.
    """

    version: str
    features: dict[str, tuple[str, ...]]
    offloads: bool
    devices: tuple[Device, ...]


def installed() -> Build:
    """Ask the installed llama-cpp-python, in a process of its own; loads no model.

    A build for another processor kills the process that it is loaded into.

    Raises:
        MissingDependency: it is not installed, or it is and cannot be loaded.
    """
    if find_spec("llama_cpp") is None:
        raise MissingDependency("not installed", hint="pip install 'aideon-core[local]'")
    try:
        asked = [sys.executable, "-P", "-m", __name__]
        done = subprocess.run(  # noqa: S603 - our own module
            asked, capture_output=True, check=False, timeout=_SECONDS
        )
    except subprocess.TimeoutExpired as error:
        raise MissingDependency(
            f"installed, and not loaded after {_SECONDS} s", hint=f"Build it anew: {REBUILD}"
        ) from error
    if done.returncode != 0:
        words = done.stderr.decode("utf-8", "replace").strip().splitlines()
        why = _signal(done.returncode) or (words[-1] if words else f"exit code {done.returncode}")
        raise MissingDependency(
            f"installed, and cannot be loaded: {why}", hint=f"Build it on this machine: {REBUILD}"
        )
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return Build(
        version=told["version"],
        features={name: tuple(each) for name, each in told["features"].items()},
        offloads=told["offloads"],
        devices=tuple(Device(**each) for each in told["devices"]),
    )


def features_of(info: str) -> dict[str, tuple[str, ...]]:
    """Read llama.cpp's system info: ``CPU : AVX = 1 | AVX2 = 1 | CUDA : ARCHS = 900 | ...``."""
    found: dict[str, tuple[str, ...]] = {}
    owner = ""
    for part in info.split("|"):
        name, colon, feature = part.rpartition(" : ")
        owner = name.strip() if colon else owner
        feature, _, value = feature.replace(" ", "").partition("=")
        if owner and feature and value != "0":
            shown = feature if value == "1" else f"{feature}={value}"
            found[owner] = (*found.get(owner, ()), shown)
    return found


def _signal(code: int) -> str:
    with suppress(ValueError):
        return f"it ended with {signal.Signals(-code).name}"
    return ""


def _ask() -> Build:
    import llama_cpp.llama_cpp as llama
    from llama_cpp import __version__ as version

    return Build(
        version=version,
        features=features_of(llama.llama_print_system_info().decode("utf-8", "replace")),
        offloads=bool(llama.llama_supports_gpu_offload()),
        devices=_devices(llama._lib),  # noqa: SLF001 - the one handle on the library there is
    )


def _devices(library: ctypes.CDLL) -> tuple[Device, ...]:
    """The devices of ggml, which a handle on llama.cpp leads to where symbols are shared."""
    try:
        count, get = library.ggml_backend_dev_count, library.ggml_backend_dev_get
        name, description = library.ggml_backend_dev_name, library.ggml_backend_dev_description
        memory, kind = library.ggml_backend_dev_memory, library.ggml_backend_dev_type
    except AttributeError:
        return ()
    handle, size = ctypes.c_void_p, ctypes.POINTER(ctypes.c_size_t)
    count.restype, get.argtypes, get.restype = ctypes.c_size_t, [ctypes.c_size_t], handle
    name.argtypes = description.argtypes = kind.argtypes = [handle]
    name.restype = description.restype = ctypes.c_char_p
    memory.argtypes, memory.restype = [handle, size, size], None
    found: list[Device] = []
    for index in range(count()):
        device, free, total = get(index), ctypes.c_size_t(), ctypes.c_size_t()
        memory(device, ctypes.byref(free), ctypes.byref(total))
        found.append(
            Device(
                name=name(device).decode("utf-8", "replace"),
                description=description(device).decode("utf-8", "replace").strip(),
                is_gpu=kind(device) in _GPU_KINDS,
                free=free.value,
                total=total.value,
            )
        )
    return tuple(found)


if __name__ == "__main__":
    print(json.dumps(asdict(_ask())))  # noqa: T201 - read by ``installed``
