"""What each sampling setting costs: tokens a second with it, over those of greedy decoding."""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING, Any

from benchmarks.measure import (
    GEMMA,
    PEER,
    QWEN,
    SHORT,
    Row,
    here,
    our_client,
    peer_answer,
    peer_model,
    rates,
    row,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from llama_cpp import Llama

    from aideon_core import Client

ASK = "Tell a long story about a lighthouse keeper, his dog, and a winter without ships.\n"
TOKENS, ROUNDS, CONTEXT = 64, 3, 256
GREEDY = "greedy"
_CUTS = {"temperature": 0.7, "top_p": 0.95, "top_k": 40, "min_p": 0.05}
_PENALTIES = {"presence_penalty": 0.2, "frequency_penalty": 0.2}
# Ids that every vocabulary has; what they stand for does not matter.
_BIAS = dict.fromkeys(range(100, 110), -5.0)
OURS: Mapping[str, dict[str, Any]] = {
    GREEDY: {"temperature": 0},
    "each side's defaults": {},
    "temperature, top_p, top_k, min_p": _CUTS,
    "the same with all penalties": {**_CUTS, **_PENALTIES, "repetition_penalty": 1.1},
    "logit_bias": {"temperature": 0, "logit_bias": _BIAS},
    "logprobs, 5 alternatives": {"temperature": 0, "logprobs": True, "top_logprobs": 5},
}
THEIRS: Mapping[str, dict[str, Any]] = {
    **OURS,
    "the same with all penalties": {**_CUTS, **_PENALTIES, "repeat_penalty": 1.1},
}
LOGPROBS = "logprobs, 5 alternatives"


def ours(client: Client, settings: dict[str, Any]) -> int:
    """How many tokens our side makes."""
    answer = client.chat(ASK, max_tokens=TOKENS, **settings)
    assert answer.usage is not None
    return answer.usage.output_tokens


def theirs(peer: Llama, model: str, settings: dict[str, Any]) -> int:
    """How many tokens the peer makes."""
    if model == GEMMA and "top_logprobs" in settings:
        # A completion takes the number alone.
        settings = {"temperature": 0, "logprobs": settings["top_logprobs"]}
    answer = peer_answer(peer, model, ASK, max_tokens=TOKENS, **settings)
    return int(answer["usage"]["completion_tokens"])


def measured(model: str) -> list[Row]:
    """The rows of one model."""
    client = our_client(model, n_ctx=CONTEXT)
    peer = peer_model(model, n_ctx=CONTEXT)
    # It tells logprobs only where it was made to keep the logits of the whole context.
    telling = peer_model(model, n_ctx=CONTEXT, logits_all=True)
    ways: dict[str, Callable[[], int]] = {}
    for name, settings in OURS.items():
        ways[f"ours, {name}"] = partial(ours, client, settings)
        asked = telling if name == LOGPROBS else peer
        ways[f"theirs, {name}"] = partial(theirs, asked, model, THEIRS[name])
    rate = rates(ways, ROUNDS)
    client.close()
    peer.close()
    telling.close()
    first, first_theirs = rate[f"ours, {GREEDY}"], rate[f"theirs, {GREEDY}"]
    rows = [row(f"greedy, {SHORT[model]}", "tokens/s", first, PEER, first_theirs)]
    rows += [
        row(
            f"{name}, {SHORT[model]}: speed of greedy kept",
            "share",
            rate[f"ours, {name}"] / first,
            f"{PEER}, logits_all" if name == LOGPROBS else PEER,
            rate[f"theirs, {name}"] / first_theirs,
            target=("Aideon", ">=", 0.1),
        )
        for name in OURS
        if name != GREEDY
    ]
    return rows


def main() -> None:
    """Print the rows of each model."""
    print(json.dumps([made for model in here((QWEN, GEMMA)) for made in measured(model)]))


if __name__ == "__main__":
    main()
