"""The pytest plugin: fixtures that give each test a loopback Together server of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aideon_testing.server import LoopbackTogether


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known, for projects that take unknown ones for mistakes."""
    config.addinivalue_line(
        "markers", "together(*answers, **options): how the together fixture makes its server"
    )


@pytest.fixture
def together(request: pytest.FixtureRequest) -> Iterator[LoopbackTogether]:
    """A started loopback Together server with an empty script.

    It serves sync and async tests alike. ``@pytest.mark.together(models=["a/b"])``, on a
    test, a class or a module, gives its arguments to LoopbackTogether.
    """
    # Every pytest run imports this module; only tests that use the server pay for it.
    from aideon_testing.server import LoopbackTogether

    marker = request.node.get_closest_marker("together")
    args, options = (marker.args, marker.kwargs) if marker else ((), {})
    with LoopbackTogether(*args, **options) as server:
        yield server


@pytest.fixture
def together_env(together: LoopbackTogether, monkeypatch: pytest.MonkeyPatch) -> LoopbackTogether:
    """The server, with the environment's Together variables pointing at it.

    Sets ``TOGETHER_API_KEY``, ``TOGETHER_BASE_URL`` (read by the together SDK and by
    Aideon), ``TOGETHER_API_BASE`` (by langchain-together) and ``TOGETHER_AI_API_BASE`` (by
    litellm), and takes away ``TOGETHER_PROJECT_ID`` and ``TOGETHER_CUSTOM_HEADERS``.
    LlamaIndex's TogetherLLM reads no address from the environment: give it
    ``api_base=f"{together_env.base_url}/v1"``, or it talks to the real API.
    """
    monkeypatch.setenv("TOGETHER_API_KEY", together.api_key)
    monkeypatch.setenv("TOGETHER_BASE_URL", together.base_url)
    monkeypatch.setenv("TOGETHER_API_BASE", f"{together.base_url}/v1")
    monkeypatch.setenv("TOGETHER_AI_API_BASE", f"{together.base_url}/v1")
    monkeypatch.delenv("TOGETHER_PROJECT_ID", raising=False)
    monkeypatch.delenv("TOGETHER_CUSTOM_HEADERS", raising=False)
    return together
