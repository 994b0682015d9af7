"""The pytest plugin: fixtures that give each test a loopback Together server of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aideon_testing.server import LoopbackTogether

API_KEY = "loopback"
"""The key ``together_env`` puts into the environment; the server takes any."""


@pytest.fixture
def together() -> Iterator[LoopbackTogether]:
    """A started loopback Together server with an empty script."""
    # Every pytest run imports this module; only tests that use the server pay for it.
    from aideon_testing.server import LoopbackTogether

    with LoopbackTogether() as server:
        yield server


@pytest.fixture
def together_env(together: LoopbackTogether, monkeypatch: pytest.MonkeyPatch) -> LoopbackTogether:
    """The server, with the environment's Together variables pointing at it.

    Sets ``TOGETHER_API_KEY``, ``TOGETHER_BASE_URL`` (read by the together SDK and by
    Aideon) and ``TOGETHER_API_BASE`` (read by langchain-together).
    """
    monkeypatch.setenv("TOGETHER_API_KEY", API_KEY)
    monkeypatch.setenv("TOGETHER_BASE_URL", together.base_url)
    monkeypatch.setenv("TOGETHER_API_BASE", f"{together.base_url}/v1")
    return together
