"""What AideonLLM takes: the words that describe a client, and the sampling parameters."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any, Final

from pydantic import SecretStr

from aideon_core import Client, Config
from aideon_core.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

_WORDS: Final = frozenset({"local", "cloud", "policy", "api_key", "base_url", "timeout"})
SAMPLING: Final = (
    "temperature",
    "top_p",
    "max_tokens",
    "seed",
    "frequency_penalty",
    "presence_penalty",
)
_KNOWN: Final = _WORDS.union(SAMPLING, ("client", "stop", "stream", "context_window"))


def checked(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields with what was left out: from the client given, or from the configuration.

    Raises:
        ConfigError: there is no such parameter, or a client is given and described at once.
    """
    _check_names(fields)
    client = fields.get("client")
    if isinstance(client, Client):
        return {**fields, **client.words(fields)}
    return {**_configured(), **fields}


def _check_names(fields: Mapping[str, Any]) -> None:
    # CrewAI would sweep a mistyped parameter into additional_params without a word.
    for name in fields:
        if name not in _KNOWN:
            near = difflib.get_close_matches(name, _KNOWN, n=1)
            known = f"Known: {', '.join(sorted(_KNOWN))}."
            hint = f"Did you mean {near[0]!r}?" if near else known
            raise ConfigError(f"AideonLLM has no parameter {name!r}.", hint=hint)


def _configured() -> dict[str, Any]:
    config = Config.load()
    return {"local": config.local, "cloud": config.cloud, "policy": config.policy}


def build_client(fields: Mapping[str, Any]) -> Client:
    """The client that the words describe."""
    key = fields.get("api_key")
    return Client(
        local=fields["local"],
        cloud=fields["cloud"],
        policy=fields["policy"],
        api_key=key.get_secret_value() if isinstance(key, SecretStr) else key,
        base_url=fields.get("base_url"),
        timeout=fields.get("timeout"),
        # CrewAI asks again itself; both together would multiply.
        max_retries=0,
    )
