"""Servers that speak OpenAI's chat format, each a row of data."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from aideon_core.backends.wire import LLAMA_CPP, OPENAI, TOGETHER, VLLM, RequestDialect
from aideon_core.errors import ConfigError

if TYPE_CHECKING:
    from aideon_core.routing import Ability

# What OpenAI's format itself has, and what servers of open models add to it. A parameter
# that a host is not known to follow is no ability of it: a server drops what it does not know
# without a word, so routing has to rule the host out.
_COMMON: Final[frozenset[Ability]] = frozenset({"tools", "json", "media", "logprobs"})
_OPENAI: Final[frozenset[Ability]] = _COMMON | {"logit_bias", "n"}
_SAMPLERS: Final[frozenset[Ability]] = frozenset({"top_k", "min_p", "repetition_penalty"})


@dataclass(frozen=True, slots=True)
class Host:
    """A server, or a program that many people run on their own machine.

    Attributes:
        name: what comes before the colon in ``cloud="ollama:llama3.2"``.
        title: what messages call it.
        base_url: where its ``/v1`` is, without it.
        key_variable: the environment variable with its key; ``None`` when it asks for none.
        dialect: how requests are written for it.
        prices: its id in the genai-prices data; ``None`` when it bills nothing.
        abilities: what it can do beyond plain text, the parameters it follows among it.
    """

    name: str
    title: str
    base_url: str
    key_variable: str | None = None
    dialect: RequestDialect = OPENAI
    prices: str | None = None
    abilities: frozenset[Ability] = _OPENAI


HOSTS: Final = {
    host.name: host
    for host in (
        Host(
            "together",
            "Together AI",
            "https://api.together.ai",
            "TOGETHER_API_KEY",
            TOGETHER,
            "together",
            _OPENAI | _SAMPLERS,
        ),
        Host(
            "openrouter",
            "OpenRouter",
            "https://openrouter.ai/api",
            "OPENROUTER_API_KEY",
            prices="openrouter",
            abilities=_COMMON | _SAMPLERS | {"logit_bias"},
        ),
        Host(
            "groq",
            "Groq",
            "https://api.groq.com/openai",
            "GROQ_API_KEY",
            prices="groq",
            abilities=_COMMON,
        ),
        Host(
            "fireworks",
            "Fireworks AI",
            "https://api.fireworks.ai/inference",
            "FIREWORKS_API_KEY",
            prices="fireworks",
            abilities=_OPENAI | _SAMPLERS,
        ),
        Host("ollama", "Ollama", "http://127.0.0.1:11434", abilities=_COMMON),
        Host(
            "llama-server",
            "llama-server",
            "http://127.0.0.1:8080",
            dialect=LLAMA_CPP,
            abilities=_OPENAI | _SAMPLERS,
        ),
        Host(
            "vllm",
            "vLLM",
            "http://127.0.0.1:8000",
            dialect=VLLM,
            abilities=_OPENAI | _SAMPLERS,
        ),
        Host(
            "lm-studio",
            "LM Studio",
            "http://127.0.0.1:1234",
            dialect=LLAMA_CPP,
            abilities=_COMMON | {"logit_bias", "top_k", "repetition_penalty"},
        ),
    )
}
"""Every host there is a name for, by it."""


def named(name: str) -> Host:
    """The host of that name.

    Raises:
        ConfigError: there is none; names the nearest.
    """
    if name not in HOSTS:
        near = difflib.get_close_matches(name, HOSTS, n=1)
        hint = f"Did you mean {near[0]!r}?" if near else f"Hosts: {', '.join(HOSTS)}."
        raise ConfigError(f"There is no cloud host {name!r}.", hint=hint)
    return HOSTS[name]


def split(spec: str) -> tuple[Host, str]:
    """The host and the model of ``"host:model"``; Together's when there is no host.

    A colon after a slash, or in a model's own name, is the model's.
    """
    name, colon, model = spec.partition(":")
    if not colon or "/" in name:
        return HOSTS["together"], spec
    return named(name), model


def root(base_url: str) -> str:
    """The address of a server without ``/v1`` and what comes after it.

    Raises:
        ConfigError: it is no address.
    """
    url = base_url.strip().rstrip("/").removesuffix("/chat/completions").removesuffix("/v1")
    try:
        parts = urlsplit(url)
    except ValueError:
        parts = urlsplit("")
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise ConfigError(
            f"{shown(base_url)!r} is no address of a server.",
            hint="It begins with https:// or http://, such as https://api.together.ai.",
        )
    return url


def shown(url: str) -> str:
    """The address without what may be secret in it: user and password."""
    scheme, separator, rest = url.partition("://")
    return f"{scheme}{separator}{rest.rpartition('@')[2]}"
