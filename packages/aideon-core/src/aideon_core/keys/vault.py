"""Keys from HashiCorp Vault, by the hvac package."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aideon_core.config import Secret, variable
from aideon_core.errors import ConfigError, MissingDependency
from aideon_core.keys.key import Key, keys_in, wrapped

if TYPE_CHECKING:
    from collections.abc import Mapping


class Vault:
    """Keys from a field of a Vault secret, of the KV engine in version 1 or 2; extra ``vault``.

    The field may hold several keys: a list, or a text with commas or white space between them.
    Every read logs in anew, so that a renewed ``VAULT_TOKEN`` or ``~/.vault-token`` counts.

    Args:
        path: the path of Vault's API, such as ``"secret/data/together"``; version 2 has
            ``data`` after the mount.
        field: the field of the secret.
        address: Vault's address; ``VAULT_ADDR`` when not given.
        token: Vault's own token; ``VAULT_TOKEN``, then ``~/.vault-token``, when not given.
        namespace: of Vault Enterprise; ``VAULT_NAMESPACE`` when not given.
        ttl: for how many seconds an answer holds.
        timeout: the longest wait for Vault, in seconds.
    """

    blocking = True

    def __init__(
        self,
        path: str,
        field: str = "api_key",
        *,
        address: str | None = None,
        token: str | Secret | None = None,
        namespace: str | None = None,
        ttl: float = 300.0,
        timeout: float = 5.0,
    ) -> None:
        self.path = path.strip("/")
        self.field = field
        self.ttl = ttl
        self._address = address
        self._token = Secret(token.strip()) if isinstance(token, str) else token
        self._namespace = namespace
        self._timeout = timeout

    def __repr__(self) -> str:
        return f"Vault({self.path!r}, {self.field!r})"

    def read(self) -> tuple[Key, ...]:
        """The keys in the field now.

        Raises:
            MissingDependency: hvac is not installed.
            ConfigError: Vault is not reached, refuses, or has no such secret or field.
        """
        where = f"Vault's {self.path}#{self.field}"
        keys: list[Key] = []
        for text in self._texts():
            if not isinstance(text, Secret):
                raise ConfigError(
                    f"The key from {where} has to be text, not a {type(text).__name__}."
                )
            keys += keys_in(text, where)
        if not keys:
            raise ConfigError(f"{where} is empty.", hint="Write the key there and ask again.")
        return tuple(keys)

    def _texts(self) -> list[object]:
        fields = self._fields()
        if self.field not in fields:
            raise ConfigError(
                f"Vault has no field {self.field!r} in {self.path}.",
                hint=f"Its fields are {', '.join(sorted(fields)) or 'none'}.",
            )
        return fields[self.field]

    def _fields(self) -> Mapping[str, list[object]]:
        """Every field of the secret, its texts wrapped."""
        answer = self._answer()
        data = answer.get("data") if isinstance(answer, dict) else None
        if isinstance(data, dict) and isinstance(data.get("metadata"), dict):
            data = data.get("data")
        if not isinstance(data, dict):
            return {}
        return {name: wrapped(value) for name, value in data.items()}

    def _answer(self) -> object:
        try:
            import hvac  # type: ignore[import-untyped]
            from hvac.exceptions import VaultError  # type: ignore[import-untyped]
        except ImportError as error:
            raise MissingDependency(
                "hvac is not installed.", hint="pip install 'aideon-core[vault]'"
            ) from error
        token = self._token or Secret(variable("VAULT_TOKEN"))
        client = hvac.Client(
            url=self._address,
            token=token.reveal() or None,
            namespace=self._namespace or variable("VAULT_NAMESPACE") or None,
            timeout=self._timeout,
        )
        where = f"Vault at {_shown(client.url)}"
        try:
            answer = client.read(self.path)
            failure = self._missing(where)
        except (VaultError, OSError) as error:
            answer, failure = None, self._failure(where, error)
        finally:
            client.adapter.close()
        if answer is None:
            # Not from its cause, whose frames hold Vault's token in their local variables.
            raise failure
        return answer

    def _missing(self, where: str) -> ConfigError:
        return ConfigError(
            f"{where} has nothing at {self.path}, or has deleted it.",
            hint="In version 2 of the KV engine, data comes after the mount: secret/data/together.",
        )

    def _failure(self, where: str, error: Exception) -> ConfigError:
        from hvac.exceptions import Forbidden, Unauthorized, VaultDown, VaultError

        # Only what hvac says in words of Vault's own: other texts repeat headers.
        if isinstance(error, Forbidden | Unauthorized):
            return ConfigError(
                f"{where} does not let this token read {self.path}.",
                hint="Check that VAULT_TOKEN has not expired, its policies, and VAULT_NAMESPACE.",
            )
        if isinstance(error, VaultDown):
            return ConfigError(f"{where} is sealed.", hint="Unseal it and ask again.")
        if isinstance(error, VaultError):
            return ConfigError(f"{where} failed: {error}.")
        return ConfigError(
            f"{where} could not be reached: {type(error).__name__}.",
            hint="Check VAULT_ADDR and the network.",
        )


def _shown(url: str) -> str:
    """The address without what may be secret in it: user and password."""
    scheme, separator, rest = url.partition("://")
    return f"{scheme}{separator}{rest.rpartition('@')[2]}"
