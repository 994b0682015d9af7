"""What a JSON Schema costs: tokens a second under one, over those without, by each side.

The prompt is the same with and without, asks for the same list, and the answer is cut after
as many tokens, so that only what keeps to the schema differs.
"""

from __future__ import annotations

import json
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
from llama_cpp import LlamaGrammar

if TYPE_CHECKING:
    from collections.abc import Callable

    from llama_cpp import Llama

    from aideon_core import Client

ASK = (
    "Write a JSON list of twenty people of a small town. Each is an object with a name, a "
    "trade, a sentence about what they did yesterday, and an age.\n"
)
TOKENS, ROUNDS, CONTEXT = 96, 5, 1024
# Twenty objects never end within the tokens that are timed.
SCHEMA = {
    "type": "array",
    "minItems": 20,
    "items": {
        "type": "object",
        "properties": {
            "name": {"type": "string"},
            "trade": {"type": "string"},
            "yesterday": {"type": "string"},
            "age": {"type": "integer"},
        },
        "required": ["name", "trade", "yesterday", "age"],
        "additionalProperties": False,
    },
}
FORMAT = {"type": "json_schema", "json_schema": {"name": "people", "schema": SCHEMA}}


def ours(client: Client, form: dict[str, Any] | None) -> int:
    """How many tokens our side makes."""
    answer = client.chat(ASK, max_tokens=TOKENS, temperature=0, response_format=form)
    assert answer.usage is not None
    return answer.usage.output_tokens


def theirs(peer: Llama, model: str, *, json_mode: bool) -> int:
    """How many tokens the peer makes."""
    form: dict[str, object] = {}
    if json_mode and model == GEMMA:
        # As its chat does with a response_format, which a completion does not take.
        form["grammar"] = LlamaGrammar.from_json_schema(json.dumps(SCHEMA), verbose=False)
    elif json_mode:
        form["response_format"] = {"type": "json_object", "schema": SCHEMA}
    answer = peer_answer(peer, model, ASK, max_tokens=TOKENS, temperature=0, **form)
    return int(answer["usage"]["completion_tokens"])


def measured(model: str) -> Row:
    """The row of one model."""
    client = our_client(model, n_ctx=CONTEXT)
    peer = peer_model(model, n_ctx=CONTEXT)
    made: dict[str, int] = {}

    def noting(name: str, way: Callable[[], int]) -> Callable[[], int]:
        def noted() -> int:
            made[name] = way()
            return made[name]

        return noted

    ways: dict[str, Callable[[], int]] = {
        "ours, free": lambda: ours(client, None),
        "theirs, free": lambda: theirs(peer, model, json_mode=False),
        "ours, JSON": lambda: ours(client, FORMAT),
        "theirs, JSON": lambda: theirs(peer, model, json_mode=True),
    }
    rate = rates({name: noting(name, way) for name, way in ways.items()}, ROUNDS)
    client.close()
    peer.close()
    figures = "; ".join(f"{name} {rate[name]:.1f} tokens/s of {made[name]}" for name in ways)
    return row(
        f"JSON Schema, {SHORT[model]}: speed of the free answer kept",
        "share",
        rate["ours, JSON"] / rate["ours, free"],
        f"{PEER}, {'grammar' if model == GEMMA else 'response_format'}",
        rate["theirs, JSON"] / rate["theirs, free"],
        target=("Aideon", ">=", 0.97),
        note=figures,
    )


def main() -> None:
    """Print a row for each model."""
    print(json.dumps([measured(model) for model in here((QWEN, GEMMA))]))


if __name__ == "__main__":
    main()
