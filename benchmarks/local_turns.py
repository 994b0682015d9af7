"""Time to the first token of a second turn, four conversations taking turns, over a cold one.

Cold is a prompt of the same turns that nobody has read: its system message begins otherwise.
"""

from __future__ import annotations

import itertools
import json
import statistics
import time
from typing import TYPE_CHECKING, Any, TypeAlias

from benchmarks.measure import PEER, QWEN, our_client, peer_model, row

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from benchmarks.measure import Row
    from llama_cpp import Llama

    from aideon_core import Client

Turn: TypeAlias = dict[str, str]
Reader: TypeAlias = "Callable[[list[Turn], int], Iterator[str]]"
"""The pieces of an answer to some turns, of at most so many tokens."""

TOPICS = ("harbours", "railways", "orchards", "glaciers")
CONVERSATIONS, ROUNDS, TOKENS, CONTEXT = len(TOPICS), 2, 16, 1024
# About 380 tokens, as the rules of an assistant are.
RULES = "\n".join(
    f"{number}. When somebody asks about {thing}, answer {manner}, and name your source."
    for number, (thing, manner) in enumerate(
        itertools.product(
            ("prices", "dates", "places", "people", "rules"),
            ("in one sentence", "with a number", "with an example", "after asking back"),
        ),
        1,
    )
)
FIRST, SECOND = "Tell me something about {topic}.", "And what should I read about it next?"


def ours(client: Client) -> Reader:
    """Our side's streams."""
    return lambda turns, tokens: (
        chunk.text for chunk in client.stream(turns, temperature=0, max_tokens=tokens)
    )


def theirs(peer: Llama) -> Reader:
    """The peer's streams, one object for all conversations, as it is not to be shared."""

    def read(turns: list[Turn], tokens: int) -> Iterator[str]:
        chunks: Any = peer.create_chat_completion(
            turns, temperature=0, max_tokens=tokens, stream=True
        )
        for chunk in chunks:
            yield chunk["choices"][0]["delta"].get("content") or ""

    return read


def first_piece(pieces: Iterator[str]) -> float:
    """Seconds until there is text, or the end of an empty answer."""
    started = time.perf_counter()
    taken = None
    for piece in pieces:
        if piece and taken is None:
            taken = time.perf_counter() - started
    return taken or time.perf_counter() - started


def opening(begins: str, topic: str) -> list[Turn]:
    """The first turn of a conversation, whose system message begins as told."""
    return [
        {"role": "system", "content": f"{begins} You advise.\n{RULES}"},
        {"role": "user", "content": FIRST.format(topic=topic)},
    ]


def second_turns(read: Reader, begins: Mapping[str, str]) -> tuple[list[float], list[float]]:
    """Seconds to the first token of each second turn, and of the same turns when cold."""
    talks = {topic: opening(begins[topic], topic) for topic in TOPICS}
    for turns in talks.values():
        said = "".join(read(turns, TOKENS))
        turns += [{"role": "assistant", "content": said}, {"role": "user", "content": SECOND}]
    warm = [first_piece(read(turns, 2)) for turns in talks.values()]
    cold = []
    for turns in talks.values():
        system = {"role": "system", "content": f"{fresh()} {turns[0]['content']}"}
        cold.append(first_piece(read([system, *turns[1:]], 2)))
    return warm, cold


_numbers = itertools.count(1000)


def fresh() -> str:
    """A beginning that no prompt had before."""
    return f"{next(_numbers)}:"


def measured(readers: dict[str, Reader], what: str, *, shared: bool) -> Row:
    """The row for conversations with one system message, or with one for each."""
    warm: dict[str, list[float]] = {name: [] for name in readers}
    cold: dict[str, list[float]] = {name: [] for name in readers}
    for _ in range(ROUNDS):
        common = fresh()
        for name, read in readers.items():
            own = {topic: common if shared else fresh() for topic in TOPICS}
            for taken, figures in zip((warm, cold), second_turns(read, own), strict=True):
                taken[name] += figures
    seconds = {
        name: (statistics.median(warm[name]), statistics.median(cold[name])) for name in readers
    }
    return row(
        what,
        "of cold",
        seconds["ours"][0] / seconds["ours"][1],
        f"{PEER}, one object",
        seconds["theirs"][0] / seconds["theirs"][1],
        target=("Aideon", "<=", 0.2),
        note="; ".join(f"{who} {a:.3g} s, cold {b:.3g} s" for who, (a, b) in seconds.items()),
    )


def main() -> None:
    """Print the rows."""
    client = our_client(QWEN, n_ctx=CONTEXT, parallel=CONVERSATIONS)
    readers = {"ours": ours(client), "theirs": theirs(peer_model(QWEN, n_ctx=CONTEXT))}
    for read in readers.values():
        "".join(read([{"role": "user", "content": "Hello."}], 2))
    what = "first token of turn 2, four conversations in turn"
    rows = [
        measured(readers, f"{what}, a system prompt for each", shared=False),
        measured(readers, f"{what}, one system prompt", shared=True),
    ]
    print(json.dumps(rows))


if __name__ == "__main__":
    main()
