"""The public surface as a type checker sees it; checked by mypy, never executed."""

from __future__ import annotations

from decimal import Decimal
from typing import assert_type

from aideon_core import (
    AsyncClient,
    Chunk,
    Client,
    Completion,
    EmbeddingModel,
    Embeddings,
    LlamaCppEmbedder,
    Route,
    Usage,
)

client = Client(local="qwen2.5-coder-0.5b-instruct", cloud=None, policy="local-first")
answer = client.chat("Name three primes.", max_tokens=64, stop=["END"])
assert_type(answer, Completion)
assert_type(answer.text, str)
assert_type(answer.usage, Usage | None)
assert_type(answer.cost, Decimal | None)
assert_type(answer.route, Route | None)
client.chat([{"role": "user", "content": "Hi"}], temperature=0.0)
client.chat("Hi", temprature=0.5)  # type: ignore[call-arg]

for chunk in client.stream("Tell me a story."):
    assert_type(chunk, Chunk)

embedding = EmbeddingModel(local=LlamaCppEmbedder("bge.gguf"), cloud="BAAI/bge-base-en-v1.5")
assert_type(Client(embedding=embedding).embed(["Hi"]), Embeddings)


async def awaiting() -> None:
    """The awaiting twin."""
    async with AsyncClient(cloud="openai/gpt-oss-20b") as twin:
        assert_type(await twin.chat("Hi"), Completion)
        async for piece in twin.stream("Hi"):
            assert_type(piece, Chunk)
