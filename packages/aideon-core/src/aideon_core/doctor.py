"""What is installed here and what it can use, what the cloud answers, and what of it is new."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Final, Literal

from aideon_core import prices
from aideon_core.backends import hosts
from aideon_core.backends.llama_cpp import LlamaCppBackend, machine
from aideon_core.backends.llama_cpp.build import REBUILD, installed
from aideon_core.backends.together import cloud_backend
from aideon_core.errors import AideonError, MissingDependency, Offline
from aideon_core.types import Usage

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from aideon_core.backends.llama_cpp.build import Build
    from aideon_core.config import Config
    from aideon_core.types import Json

SDK_KNOWN: Final = (3, 1)
"""The ``together`` release that this version was tried with."""

_ROW_FIELDS: Final = frozenset(
    {
        "id", "uuid", "object", "created", "type", "running", "display_name", "organization",
        "link", "license", "context_length", "config", "pricing", "description",
    }
)  # fmt: skip
_PRICE_FIELDS: Final = frozenset(
    {
        "hourly", "input", "output", "base", "finetune", "cached_input", "image_pixel",
        "transcribe", "image", "video",
    }
)  # fmt: skip
_TYPES: Final = frozenset(
    {
        "chat", "language", "code", "image", "embedding", "moderation", "rerank", "audio",
        "transcribe", "video",
    }
)  # fmt: skip
_GIGABYTE: Final = 1_000_000_000
_OF_GPUS: Final = frozenset({"CUDA", "ROCm", "MUSA", "SYCL", "Vulkan", "Metal", "MTL"})
_SAME_PRICE: Final = 0.01
_A_MILLION: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        level: ``"ok"``; ``"note"`` for what works and is worth knowing; ``"problem"``.
        subject: what was looked at.
        message: what was seen.
        hint: what to do about it.
    """

    level: Literal["ok", "note", "problem"]
    subject: str
    message: str
    hint: str = ""


def examine(config: Config) -> Iterator[Finding]:
    """Look at the installation, the local side and the cloud side.

    Sends one GET, and loads no model. llama.cpp is asked in a process of its own.

    Args:
        config: the settings that a client would start from.
    """
    yield _package("aideon-core")
    yield _sdk()
    yield from _local(config)
    yield from _cloud(config)


def _package(name: str) -> Finding:
    return Finding("ok", name, version(name))


def _sdk() -> Finding:
    try:
        installed = version("together")
    except PackageNotFoundError:
        return Finding(
            "note",
            "together SDK",
            "not installed; chat needs none",
            "For client.together: pip install 'aideon-core[together]'",
        )
    known = ".".join(map(str, SDK_KNOWN))
    if tuple(int(part) for part in installed.split(".")[:2] if part.isdigit()) > SDK_KNOWN:
        return Finding("note", "together SDK", f"{installed}, newer than {known}, which we know")
    return Finding("ok", "together SDK", installed)


def _local(config: Config) -> Iterator[Finding]:
    if config.local is None:
        return
    yield from _engine()
    try:
        backend = LlamaCppBackend(config.local, config=config)
        if (reason := backend.unavailable()) is not None:
            raise reason
    except MissingDependency:
        return  # told already
    except AideonError as error:
        yield Finding("problem", "local model", error.message, error.hint)
    else:
        yield Finding("ok", "local model", f"{config.local} is here")
        yield _memory(backend.path, config.local_memory_gb)


def _engine() -> Iterator[Finding]:
    try:
        build = installed()
    except MissingDependency as error:
        yield Finding("problem", "llama-cpp-python", error.message, f"{error.hint}; {_compiler()}")
    else:
        features = ", ".join(build.features.get("CPU", ())) or "nothing it tells of"
        yield Finding("ok", "llama-cpp-python", f"{build.version}, built to use {features}")
        yield from _gpus(build)
    for name in ("llguidance", "numpy", "jinja2"):
        try:
            yield _package(name)
        except PackageNotFoundError:
            hint = "pip install 'aideon-core[local]'"
            yield Finding("problem", name, "not installed; no model can run here", hint)


def _compiler() -> str:
    if (found := machine.compiler()) is not None:
        return f"it takes a C++ compiler, and {found} is here."
    return (
        "it takes a C++ compiler, and none is on the PATH. There is one in build-essential "
        "(Debian, Ubuntu), by xcode-select --install (macOS), in Visual Studio's Build Tools "
        "(Windows); c++ --version shows that it is found."
    )


def _gpus(build: Build) -> Iterator[Finding]:
    """The GPUs that a build can use, and what to do about one that it cannot."""
    for device in build.devices:
        if device.is_gpu:
            free, total = device.free / _GIGABYTE, device.total / _GIGABYTE
            yield Finding(
                "ok",
                "GPU",
                f"{device.name}, {device.description}: {free:.1f} of {total:.1f} GB free",
                "n_gpu_layers=-1 puts all of a model on it.",
            )
    if build.offloads:
        if not build.devices:
            yield Finding("ok", "GPU", "this build can put layers on one")
        return
    gpu = machine.gpu()
    if built_for := sorted(_OF_GPUS & build.features.keys()):
        yield Finding(
            "note",
            "GPU",
            f"llama-cpp-python is built for {', '.join(built_for)} and sees no GPU",
            "Look at the driver, and at variables that hide GPUs, such as CUDA_VISIBLE_DEVICES.",
        )
    elif gpu is not None:
        yield Finding(
            "note",
            "GPU",
            f"seen here: {gpu.title}; this build of llama-cpp-python uses the CPU alone",
            f'CMAKE_ARGS="{gpu.cmake_args}" {REBUILD} builds one that uses it, with {gpu.needs}.',
        )
    else:
        yield Finding("ok", "GPU", "none is seen, and this build uses the CPU alone")


def _memory(path: Path, limit: float | None) -> Finding:
    """Whether a model's file fits into memory; its contexts come on top."""
    size, memory = path.stat().st_size / _GIGABYTE, machine.memory()
    takes = f"the model takes {size:.2f} GB and more for its contexts"
    if limit is not None and size > limit:
        hint = "Raise it, or choose a smaller model."
        return Finding("problem", "memory", f"{takes}; local_memory_gb allows {limit:g}", hint)
    if memory is None:
        return Finding("ok", "memory", takes)
    total = memory / _GIGABYTE
    if size > total:
        hint = "Choose a smaller model, or one with fewer bits for each weight."
        return Finding("problem", "memory", f"{takes}; the machine has {total:.1f} GB", hint)
    return Finding("ok", "memory", f"{takes}; the machine has {total:.1f} GB")


def _cloud(config: Config) -> Iterator[Finding]:
    if config.cloud is None:
        return
    subject = "cloud"
    try:
        host, model = hosts.split(config.cloud)
        subject = host.title
        rows = cloud_backend(config.cloud, config=config).models()
    except Offline as error:
        yield Finding("note", subject, error.message, error.hint)
    except AideonError as error:
        yield Finding("problem", subject, error.message, error.hint)
    else:
        yield Finding("ok", subject, f"answers with {len(rows)} models")
        yield from _model(host, model, rows)
        yield from _unknown(rows)


def _model(host: hosts.Host, model: str, rows: Sequence[Json]) -> Iterator[Finding]:
    row = next((row for row in rows if row.get("id") == model), None)
    if row is None:
        near = prices.nearest(host.prices, model) if host.prices else []
        hint = f"Nearest known models: {', '.join(near)}." if near else ""
        yield Finding("problem", "cloud model", f"{host.title} does not list {model!r}", hint)
        return
    yield Finding("ok", "cloud model", f"{host.title} lists {model}")
    if host.prices is not None:
        yield from _price(host.prices, model, row)


def _price(provider: str, model: str, row: Json) -> Iterator[Finding]:
    pricing = row.get("pricing")
    if not isinstance(pricing, dict):
        return
    for unit in ("input", "output"):
        asked = pricing.get(unit)
        million = Usage(*((_A_MILLION, 0) if unit == "input" else (0, _A_MILLION)))
        known = prices.cost(provider, model, million)
        if not isinstance(asked, int | float) or known is None:
            continue
        if abs(asked - float(known)) > _SAME_PRICE * max(asked, float(known)):
            yield Finding(
                "note",
                "price",
                f"{model}: the server says {asked:g} USD a million {unit} tokens, "
                f"the price data {known:g}",
                "Costs follow the price data; pip install -U genai-prices may know the new one.",
            )


def _unknown(rows: Sequence[Json]) -> Iterator[Finding]:
    """What the server lists that this version has no name for."""
    seen: dict[str, set[str]] = {"field": set(), "price": set(), "model type": set()}
    for row in rows:
        seen["field"] |= row.keys() - _ROW_FIELDS
        pricing = row.get("pricing")
        seen["price"] |= (pricing.keys() if isinstance(pricing, dict) else set()) - _PRICE_FIELDS
        seen["model type"] |= {str(row["type"])} - _TYPES if "type" in row else set()
    for kind, names in seen.items():
        if names:
            yield Finding(
                "note",
                "wire",
                f"the server lists a {kind} unknown to this version: {', '.join(sorted(names))}",
                "Nothing is lost by it; a newer aideon-core may use it.",
            )
