"""The default local model keeps every promise that Together does."""

from __future__ import annotations

import pytest

from aideon_testing.conformance import ConformanceTests


@pytest.mark.model
@pytest.mark.slow
class TestLocalModel(ConformanceTests):
    """The model in this process: its answers have the shapes of Together's."""

    context_tokens = 2048

    @pytest.fixture(scope="class")
    @classmethod
    def backend(cls, local_model):
        return local_model
