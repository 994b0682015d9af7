"""Four requests at once against the same one after the other, and whether answers stay equal."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING

from benchmarks.measure import PEER, QWEN, Target, our_client, peer_answer, peer_model, rates, row

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.measure import Row
    from llama_cpp import Llama

    from aideon_core import Client
    from aideon_core.types import Completion

ASKS = tuple(
    f"Explain at length to a beginner how {thing} works."
    for thing in ("a bicycle", "a refrigerator", "a telescope", "a bakery")
)
TOKENS, ROUNDS, CONTEXT = 64, 3, 1024
# Twenty calls of each of eight threads, every thread beginning with another one.
CALLS = tuple(f"Name one thing that begins with the letter {letter}." for letter in
              "ABCDEFGHIJKLMNOPQRST")  # fmt: skip
WORKERS, CALL_TOKENS = 8, 12
FASTER: Target = ("ratio", ">=", 1.4)
UNSHARED = "two threads on one of its objects crash the process"


def ours(client: Client, temperature: float, ask: str) -> int:
    """How many tokens our side makes."""
    answer = client.chat(ask, max_tokens=TOKENS, temperature=temperature)
    return _made(answer)


def theirs(peer: Llama, temperature: float, ask: str) -> int:
    """How many tokens the peer makes."""
    answer = peer_answer(peer, QWEN, ask, max_tokens=TOKENS, temperature=temperature)
    return int(answer["usage"]["completion_tokens"])


def _made(answer: Completion) -> int:
    assert answer.usage is not None
    return answer.usage.output_tokens


def one_by_one(way: Callable[[str], int]) -> int:
    """Tokens of all requests, each beginning when the one before is over."""
    return sum(map(way, ASKS))


def at_once(way: Callable[[str], int]) -> int:
    """Tokens of all requests, each in a thread."""
    with ThreadPoolExecutor(len(ASKS)) as threads:
        return sum(threads.map(way, ASKS))


def throughput(
    client: Client, peer: Llama, temperature: float, how: str, target: Target | None
) -> list[Row]:
    """Total tokens a second at one temperature."""
    way = partial(ours, client, temperature)
    rate = rates(
        {
            "at once": lambda: at_once(way),
            "in turn": lambda: one_by_one(way),
            "theirs": lambda: one_by_one(partial(theirs, peer, temperature)),
        },
        ROUNDS,
    )
    what, together = f"four requests at once, {how}", rate["at once"]
    serial, other = "Aideon, one after the other", f"{PEER}, one after the other"
    return [
        row(what, "tokens/s", together, serial, rate["in turn"], target=target),
        row(what, "tokens/s", together, other, rate["theirs"], note=UNSHARED),
    ]


def equality(client: Client) -> Row:
    """How many answers of many threads differ from those given one by one."""

    def answer(ask: str) -> str:
        return client.chat(ask, max_tokens=CALL_TOKENS, temperature=0).text

    alone = {ask: answer(ask) for ask in CALLS}

    def differing(worker: int) -> int:
        first = worker * len(CALLS) // WORKERS
        asks = CALLS[first:] + CALLS[:first]
        return sum(answer(ask) != alone[ask] for ask in asks)

    with ThreadPoolExecutor(WORKERS) as threads:
        wrong = sum(threads.map(differing, range(WORKERS)))
    return row(
        f"{WORKERS} threads x {len(CALLS)} calls, temperature 0: answers unlike the serial ones",
        f"of {WORKERS * len(CALLS)}",
        wrong,
        PEER,
        None,
        target=("Aideon", "<=", 0),
        note=UNSHARED,
    )


def main() -> None:
    """Print the rows."""
    client = our_client(QWEN, n_ctx=CONTEXT, parallel=len(ASKS))
    free = our_client(QWEN, n_ctx=CONTEXT, parallel=len(ASKS), reproducible=False)
    peer = peer_model(QWEN, n_ctx=CONTEXT)
    rows = [
        *throughput(client, peer, 0.7, "temperature 0.7", FASTER),
        *throughput(free, peer, 0.0, "temperature 0, reproducible=False", FASTER),
        *throughput(client, peer, 0.0, "temperature 0", None),
    ]
    print(json.dumps([*rows, equality(client)]))


if __name__ == "__main__":
    main()
