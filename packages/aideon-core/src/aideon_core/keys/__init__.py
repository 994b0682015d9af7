"""API keys: where they come from, and which of them is sent next."""

from aideon_core.keys.key import Key
from aideon_core.keys.ring import KeyRing, Keys, hidden
from aideon_core.keys.sources import Called, Environment, File, Fixed, Source
from aideon_core.keys.state import KeyState
from aideon_core.keys.system import SystemKeyring
from aideon_core.keys.vault import Vault

__all__ = [
    "Called",
    "Environment",
    "File",
    "Fixed",
    "Key",
    "KeyRing",
    "KeyState",
    "Keys",
    "Source",
    "SystemKeyring",
    "Vault",
    "hidden",
]
