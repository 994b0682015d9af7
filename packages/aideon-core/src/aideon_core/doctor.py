"""What is installed here, what the cloud answers, and what of it this version does not know."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Final, Literal

from aideon_core import prices
from aideon_core.backends import hosts
from aideon_core.backends.llama_cpp import LlamaCppBackend
from aideon_core.backends.together import cloud_backend
from aideon_core.errors import AideonError, Offline
from aideon_core.types import Usage

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

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
    """Look at the installation, the local side and the cloud side; sends one GET.

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
    try:
        reason = LlamaCppBackend(config.local, config=config).unavailable()
    except AideonError as error:
        reason = error
    if reason is None:
        yield Finding("ok", "local model", f"{config.local} is here")
    else:
        yield Finding("problem", "local model", reason.message, reason.hint)


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
