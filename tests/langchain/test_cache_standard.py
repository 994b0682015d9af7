"""LangChain's own conformance tests of caches, on both stores."""

from __future__ import annotations

import pytest
from langchain_tests.integration_tests import AsyncCacheTestSuite, SyncCacheTestSuite

from langchain_aideon.cache import AideonCache


@pytest.fixture(params=["memory", "sqlite"])
def place(request, tmp_path):
    return ":memory:" if request.param == "memory" else tmp_path / "c.sqlite"


class TestAideonCache(SyncCacheTestSuite):
    """AideonCache is the cache LangChain expects."""

    @pytest.fixture
    def cache(self, place):
        cache = AideonCache(place)
        yield cache
        cache.close()


class TestAideonCacheAwaited(AsyncCacheTestSuite):
    """AideonCache is the cache LangChain expects, awaited."""

    @pytest.fixture
    async def cache(self, place):
        cache = AideonCache(place)
        yield cache
        cache.close()
