"""What the tests of the loopback server share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx2
import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aideon_testing import LoopbackTogether

MODEL = "openai/gpt-oss-120b"


@pytest.fixture
def client(together: LoopbackTogether) -> Iterator[httpx2.Client]:
    """An HTTP client of the started server, with a key."""
    headers = {"authorization": "Bearer any"}
    with httpx2.Client(base_url=together.base_url, headers=headers) as client:
        yield client


@pytest.fixture
def chat_body() -> dict[str, object]:
    """A minimal chat request."""
    return {"model": MODEL, "messages": [{"role": "user", "content": "Say hello."}]}
