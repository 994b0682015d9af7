"""Fixtures for every test: no outside settings, and the default local model."""

from __future__ import annotations

import os
import sys

import pytest

from aideon_core import LlamaCppBackend
from aideon_core.config import DEFAULT_LOCAL, Config

_SETTINGS = (
    "TOGETHER_API_KEY",
    "TOGETHER_API_KEYS",
    "TOGETHER_API_KEY_FILE",
    "TOGETHER_BASE_URL",
    "AIDEON_OFFLINE",
    "AIDEON_CONFIG",
)

# Where `make model` put it, whatever a test does to the environment later.
HOME = Config.load(os.environ).home


def pytest_unconfigure():
    """Close what llama-cpp-python opens at import and would be warned about at exit."""
    utils = sys.modules.get("llama_cpp._utils")
    for name in ("outnull_file", "errnull_file"):
        if (file := getattr(utils, name, None)) is not None:
            file.close()


@pytest.fixture(autouse=True)
def _no_outside_settings(monkeypatch, tmp_path_factory):
    """What is set on the developer's machine reaches no test."""
    for name in _SETTINGS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AIDEON_HOME", str(tmp_path_factory.getbasetemp() / "home"))


@pytest.fixture(scope="session")
def local_model() -> LlamaCppBackend:
    """The default model as a backend; loaded once for all tests that use it."""
    backend = LlamaCppBackend(DEFAULT_LOCAL, n_ctx=2048, config=Config(home=HOME))
    if (reason := backend.unavailable()) is not None:
        pytest.skip(str(reason))
    return backend
