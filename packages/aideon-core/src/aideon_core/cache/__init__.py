"""Answers given before: where they are kept, and when one of them is this call's answer.

Imported when a client is given a ``cache=``, and not before.
"""

from aideon_core.cache.cache import Cache
from aideon_core.cache.sqlite import SqliteStore
from aideon_core.cache.store import MemoryStore, Store, StoreFailed

__all__ = ["Cache", "MemoryStore", "SqliteStore", "Store", "StoreFailed"]
