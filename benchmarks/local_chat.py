"""Tokens a second of plain local chat, the same model and settings on both sides."""

from __future__ import annotations

import json
import statistics
import time

from llama_cpp import Llama

from aideon_core import Client, LlamaCppBackend
from aideon_core.config import DEFAULT_LOCAL

ASK = "Explain in a few sentences how a bicycle stays upright."
TOKENS, ROUNDS, CONTEXT, THREADS = 96, 5, 2048, 2


def main() -> None:
    """Print the row."""
    backend = LlamaCppBackend(DEFAULT_LOCAL, n_ctx=CONTEXT, n_threads=THREADS)
    client = Client(local=backend, cloud=None)
    peer = Llama(str(backend.path), n_ctx=CONTEXT, n_threads=THREADS, verbose=False)

    def ours() -> int:
        answer = client.chat(ASK, max_tokens=TOKENS, temperature=0)
        assert answer.usage is not None
        return answer.usage.output_tokens

    def theirs() -> int:
        answer = peer.create_chat_completion(
            [{"role": "user", "content": ASK}], max_tokens=TOKENS, temperature=0
        )
        return int(answer["usage"]["completion_tokens"])

    taken: dict[str, list[float]] = {"ours": [], "theirs": []}
    for way in (ours, theirs):
        way()
    for _ in range(ROUNDS):
        for name, way in (("ours", ours), ("theirs", theirs)):
            started = time.perf_counter()
            taken[name].append(way() / (time.perf_counter() - started))
    row = {
        "what": "local chat, prompt read before",
        "unit": "tokens/s",
        "ours": statistics.median(taken["ours"]),
        "peer": "llama-cpp-python create_chat_completion",
        "theirs": statistics.median(taken["theirs"]),
    }
    print(json.dumps([row]))


if __name__ == "__main__":
    main()
