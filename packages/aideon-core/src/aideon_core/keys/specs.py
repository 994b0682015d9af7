"""What ``api_key=`` accepts, as sources."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aideon_core.config import Secret
from aideon_core.errors import ConfigError
from aideon_core.keys.sources import Called, Environment, File, Fixed, Source
from aideon_core.keys.system import SystemKeyring
from aideon_core.keys.vault import Vault

if TYPE_CHECKING:
    from collections.abc import Iterable

_SHAPES = {
    "env": "env:NAME",
    "file": "file:/path",
    "keyring": "keyring:service/user",
    "vault": "vault:secret/data/together#field",
}


def sources(things: Iterable[object]) -> list[Source]:
    """The source that each thing stands for.

    Args:
        things: keys and specs, wrapped; sources; functions.

    Raises:
        ConfigError: one of them is nothing that gives keys.
    """
    return [_source(thing) for thing in things]


def _source(thing: object) -> Source:
    if isinstance(thing, Secret):
        return _from_spec(thing)
    if isinstance(thing, Source):
        return thing
    if callable(thing):
        return Called(thing)
    raise ConfigError(
        f"api_key= does not take a {type(thing).__name__}.",
        hint="It takes a key, a spec such as 'file:/path', a source, a function, or several.",
    )


def _from_spec(text: Secret) -> Source:
    scheme, _, rest = text.reveal().partition(":")
    if scheme not in _SHAPES:
        # It is a key then, and a key must not stay in the local variables of this frame.
        del scheme, rest
        return Fixed(text)
    if scheme == "env" and rest:
        return Environment(rest)
    if scheme == "file" and rest:
        return File(rest)
    service, _, user = rest.rpartition("/")
    if scheme == "keyring" and service and user:
        return SystemKeyring(service, user)
    path, _, field = rest.partition("#")
    if scheme == "vault" and path:
        return Vault(path, field) if field else Vault(path)
    raise ConfigError(f"The spec of a key {scheme}: is not whole.", hint=f"Write {_SHAPES[scheme]}")
