"""Keys from the operating system's keyring, with a keyring in memory in its place."""

from __future__ import annotations

import sys

import keyring
import keyring.backend
import pytest
from keyring.backends import fail
from keyring.errors import InitError, KeyringLocked

from aideon_core.errors import ConfigError, MissingDependency
from aideon_core.keys import KeyRing, SystemKeyring


class InMemory(keyring.backend.KeyringBackend):
    """A keyring as the system's are, which can be locked."""

    priority = 1

    def __init__(self):
        super().__init__()
        self.entries: dict[tuple[str, str], str] = {}
        self.trouble: Exception | None = None

    def get_password(self, service, username):
        if self.trouble:
            raise self.trouble
        return self.entries.get((service, username))

    def set_password(self, service, username, password):
        self.entries[service, username] = password


@pytest.fixture
def system():
    """The keyring that the keyring package uses."""
    before = keyring.get_keyring()
    keyring.set_keyring(InMemory())
    yield keyring.get_keyring()
    keyring.set_keyring(before)


def test_what_was_stored_is_the_key(system):
    """The password of the service and user is the key, or several."""
    keyring.set_password("together", "me", "a\n")
    keyring.set_password("https://api.together.ai", "team", "b, c")
    assert KeyRing.of("keyring:together/me").lease().reveal() == "a"
    read = SystemKeyring("https://api.together.ai", "team").read()
    assert [key.reveal() for key in read] == ["b", "c"]
    assert read[0].source == "the keyring's https://api.together.ai/team"


def test_a_replaced_password_is_found_when_the_old_one_is_refused(system):
    """Rotation in the keyring needs no restart."""
    keyring.set_password("together", "me", "old")
    ring = KeyRing.of("keyring:together/me")
    old = ring.lease()
    keyring.set_password("together", "me", "new")
    assert ring.refused(old)
    assert ring.lease().reveal() == "new"


@pytest.mark.parametrize(
    ("trouble", "said"),
    [
        (None, "Store it: keyring set together me"),
        (KeyringLocked("locked"), "is locked. Unlock it"),
        (InitError("no D-Bus session"), "cannot be read: no D-Bus session"),
    ],
)
def test_a_keyring_that_gives_nothing_says_why(system, trouble, said):
    """An empty, a locked and a broken keyring each say what to do or what is wrong."""
    system.trouble = trouble
    with pytest.raises(ConfigError, match=said):
        SystemKeyring("together", "me").read()


def test_a_machine_without_a_keyring_is_told(system):
    """On a server without a keyring the error names the alternatives."""
    keyring.set_keyring(fail.Keyring())
    with pytest.raises(ConfigError, match="no keyring. Use a file or the environment"):
        SystemKeyring("together", "me").read()


def test_without_the_package_the_extra_is_named(monkeypatch):
    """A missing package is an error with the command that installs it."""
    monkeypatch.setitem(sys.modules, "keyring", None)
    with pytest.raises(MissingDependency, match=r"aideon-core\[keyring\]"):
        SystemKeyring("together", "me").read()
