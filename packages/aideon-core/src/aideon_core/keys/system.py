"""Keys from the operating system's keyring, by the keyring package."""

from __future__ import annotations

from aideon_core.config import Secret
from aideon_core.errors import ConfigError, MissingDependency
from aideon_core.keys.key import Key, keys_in


class SystemKeyring:
    """Keys from the keyring of macOS, Windows or the Linux desktop; extra ``keyring``.

    The password may hold several keys with commas or white space between them. Store it with
    ``keyring set SERVICE USER``.

    Args:
        service: the service it is stored under.
        user: the user it is stored under.
        ttl: for how many seconds an answer holds.
    """

    blocking = True

    def __init__(self, service: str, user: str, *, ttl: float = 300.0) -> None:
        self.service = service
        self.user = user
        self.ttl = ttl

    def __repr__(self) -> str:
        return f"SystemKeyring({self.service!r}, {self.user!r})"

    def read(self) -> tuple[Key, ...]:
        """The keys stored now.

        Raises:
            MissingDependency: the keyring package is not installed.
            ConfigError: there is no keyring, it is locked, or it holds no such entry.
        """
        stored = self._stored()
        keys = keys_in(stored, f"the keyring's {self.service}/{self.user}") if stored else ()
        if not keys:
            raise ConfigError(
                f"The keyring holds nothing for {self.service!r} and {self.user!r}.",
                hint=f"Store it: keyring set {self.service} {self.user}",
            )
        return keys

    def _stored(self) -> Secret | None:
        try:
            import keyring
            from keyring.errors import KeyringError, KeyringLocked, NoKeyringError
        except ImportError as error:
            raise MissingDependency(
                "keyring is not installed.", hint="pip install 'aideon-core[keyring]'"
            ) from error
        try:
            password = keyring.get_password(self.service, self.user)
        except NoKeyringError as error:
            raise ConfigError(
                "This machine has no keyring.",
                hint="Use a file or the environment, or install a backend of keyring.",
            ) from error
        except KeyringLocked as error:
            raise ConfigError("The keyring is locked.", hint="Unlock it and ask again.") from error
        except KeyringError as error:
            raise ConfigError(f"The keyring cannot be read: {error}.") from error
        return Secret(password) if password else None
