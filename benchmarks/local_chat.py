"""Tokens a second of plain local chat, the same model and settings on both sides."""

from __future__ import annotations

import json

from benchmarks.measure import PEER, QWEN, our_client, peer_answer, peer_model, rates, row

ASK = "Explain in a few sentences how a bicycle stays upright."
TOKENS, ROUNDS, CONTEXT = 96, 5, 2048


def main() -> None:
    """Print the row."""
    client = our_client(QWEN, n_ctx=CONTEXT)
    peer = peer_model(QWEN, n_ctx=CONTEXT)

    def ours() -> int:
        answer = client.chat(ASK, max_tokens=TOKENS, temperature=0)
        assert answer.usage is not None
        return answer.usage.output_tokens

    def theirs() -> int:
        answer = peer_answer(peer, QWEN, ASK, max_tokens=TOKENS, temperature=0)
        return int(answer["usage"]["completion_tokens"])

    rate = rates({"ours": ours, "theirs": theirs}, ROUNDS)
    made = row(
        "local chat, prompt read before",
        "tokens/s",
        rate["ours"],
        f"{PEER} create_chat_completion",
        rate["theirs"],
        target=("ratio", ">=", 1.0),
    )
    print(json.dumps([made]))


if __name__ == "__main__":
    main()
