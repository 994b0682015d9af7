"""Right function calls on the shared part of the Berkeley Function Calling Leaderboard.

Usage: python -m benchmarks.bfcl [--cases N]

The same model answers the same cases on both sides, at temperature 0 and with the same bound
on its answer. Answers are kept in the temporary folder as they come, so that a run that was
cut off, or one with more cases, goes on from there.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import tempfile
from dataclasses import asdict, dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from benchmarks import bfcl_rules
from benchmarks.measure import (
    PEER,
    QWEN,
    Row,
    here,
    interval,
    our_client,
    peer_model,
    row,
    skipped,
)
from llama_cpp.llama_chat_format import get_chat_completion_handler

import aideon_core
from aideon_core.errors import AideonError
from aideon_core.tools.reading import read_calls

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from benchmarks.bfcl_rules import Call, Json
    from llama_cpp import Llama

    from aideon_core import Client

DATA = Path(__file__).parents[2] / "shared" / "data" / "bfcl"
KEPT = Path(tempfile.gettempdir()) / "aideon-bench-bfcl.jsonl"
CALLING = ("simple_python", "multiple", "parallel")
CATEGORIES = (*CALLING, "irrelevance")
CHOICES = ("auto", "required")
CASES, TOKENS, CONTEXT = 20, 256, 2048
HANDLER = "chatml-function-calling"
# Its handler asks anew after each call until it may stop; no case wants more than four.
HANDLER_ASKS = 16


@dataclass(frozen=True, slots=True)
class Case:
    """A question, the functions offered, and the calls that are right."""

    id: str
    category: str
    messages: list[dict[str, str]]
    functions: list[Json]
    truths: list[Json]

    @property
    def tools(self) -> list[dict[str, Any]]:
        """The functions as OpenAI's API takes them."""
        return bfcl_rules.tools(self.functions)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a side gave: calls with their arguments' JSON text, text, or an error."""

    text: str = ""
    calls: tuple[tuple[str, str], ...] = ()
    error: str = ""


Way: TypeAlias = "Callable[[Case, str], Answer]"
Reading: TypeAlias = "Callable[[Answer, Case], list[Call]]"


def cases(count: int) -> list[Case]:
    """So many of each category, evenly over its file; all of a smaller one."""
    return [
        Case(
            row["id"],
            category,
            row["question"][0],
            row["function"],
            answers.get(row["id"], []),
        )
        for category in CATEGORIES
        for answers in [_answers(category)]
        for row in _evenly(_lines(DATA / f"{category}.jsonl"), count)
    ]


def _answers(category: str) -> dict[str, list[Json]]:
    path = DATA / f"{category}.answers.jsonl"
    return {row["id"]: row["ground_truth"] for row in _lines(path)} if path.exists() else {}


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _evenly(rows: Sequence[dict[str, Any]], count: int) -> list[dict[str, Any]]:
    count = min(count, len(rows))
    return [rows[number * len(rows) // count] for number in range(count)]


def our_way(client: Client) -> Way:
    """Our side as anybody would ask it."""

    def ask(case: Case, choice: str) -> Answer:
        try:
            answer = client.chat(
                case.messages,
                tools=case.tools,
                tool_choice=choice,
                temperature=0,
                max_tokens=TOKENS,
            )
        except AideonError as error:
            return Answer(error=f"{type(error).__name__}: {error}")
        return Answer(answer.text, tuple((call.name, call.arguments) for call in answer.tool_calls))

    return ask


def peer_way(peer: Llama) -> Way:
    """The peer's chat with the model's own template."""

    def ask(case: Case, choice: str) -> Answer:
        return _peer_answer(
            lambda: peer.create_chat_completion(
                case.messages,
                tools=case.tools,
                tool_choice=choice,
                temperature=0,
                max_tokens=TOKENS,
            )
        )

    return ask


def handler_way(peer: Llama) -> Way:
    """The peer's handler for function calls, which has a prompt and grammars of its own."""
    handler = get_chat_completion_handler(HANDLER)

    def ask(case: Case, choice: str) -> Answer:
        return _peer_answer(
            lambda: handler(
                llama=_Bounded(peer),
                messages=case.messages,
                tools=case.tools,
                tool_choice=choice,
                temperature=0,
                # What create_chat_completion passes; the handler's own default is 1.1.
                repeat_penalty=1.0,
            )
        )

    return ask


class _Bounded:
    """The peer with the bound that its handler drops: it would fill the context."""

    verbose = False

    def __init__(self, peer: Llama) -> None:
        self._peer, self._left = peer, HANDLER_ASKS

    def create_completion(self, **given: object) -> object:
        self._left -= 1
        if self._left < 0:
            raise RuntimeError("it calls without end")
        return self._peer.create_completion(**{**given, "max_tokens": TOKENS})


def _peer_answer(ask: Callable[[], Any]) -> Answer:
    try:
        message = ask()["choices"][0]["message"]
    except Exception as error:  # noqa: BLE001 - whatever it raises is its answer
        return Answer(error=f"{type(error).__name__}: {error}")
    calls = (call["function"] for call in message.get("tool_calls") or ())
    return Answer(
        message.get("content") or "",
        tuple((call["name"], call["arguments"]) for call in calls),
    )


def as_calls(answer: Answer, _case: Case) -> list[Call]:
    """The calls that the side itself gave."""
    return [(name, json.loads(arguments)) for name, arguments in answer.calls]


def as_tagged(answer: Answer, case: Case) -> list[Call]:
    """The same, and what stands between Hermes tags in its text."""
    return as_calls(answer, case) + bfcl_rules.tagged_calls(answer.text)


def as_read_by_us(answer: Answer, case: Case) -> list[Call]:
    """The same, and whatever our reader of calls finds in its text."""
    known = {tool["function"]["name"]: tool["function"]["parameters"] for tool in case.tools}
    _, found = read_calls(answer.text, known)
    return as_calls(answer, case) + [(call.name, json.loads(call.arguments)) for call in found]


def is_right(case: Case, answer: Answer, reading: Reading) -> bool:
    """Whether the answer holds up; an error never does, nor arguments that are no object."""
    if answer.error:
        return False
    try:
        calls = reading(answer, case)
    except ValueError:
        return False
    if not all(isinstance(arguments, dict) for _, arguments in calls):
        return False
    return bfcl_rules.fault(case.category, case.functions, calls, case.truths) is None


class Answers:
    """Every answer so far, kept by what was asked of whom."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: dict[str, Answer] = {}
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        for line in lines:
            try:
                kept = json.loads(line)
            except ValueError:
                continue  # The run before was cut off here.
            calls = tuple((name, arguments) for name, arguments in kept["calls"])
            self._known[kept["key"]] = Answer(kept["text"], calls, kept["error"])

    def ask(self, who: str, way: Way, case: Case, choice: str) -> Answer:
        """The answer kept, or a new one."""
        asked = [who, QWEN, choice, TOKENS, CONTEXT, case.messages, case.tools]
        key = hashlib.sha256(json.dumps(asked).encode()).hexdigest()
        if key not in self._known:
            answer = self._known[key] = way(case, choice)
            with self._path.open("a", encoding="utf-8") as file:
                # On a line of its own, even where the last one was cut off.
                file.write("\n" + json.dumps({"key": key, **asdict(answer)}))
        return self._known[key]


@cache
def our_version() -> str:
    """Our source as it is: an answer of another state must not be taken for one of this."""
    digest = hashlib.sha256()
    for path in sorted(Path(aideon_core.__path__[0]).rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


Given: TypeAlias = dict[tuple[str, str, str], Answer]
"""Answers by side, tool choice and case id."""


def gather(sample: Sequence[Case], client: Client, peer: Llama, answers: Answers) -> Given:
    """Ask everybody everything, one after the other."""
    theirs = f"{PEER} {version('llama-cpp-python')}"
    ways: Mapping[str, tuple[str, Way, Sequence[str]]] = {
        "ours": (f"Aideon {our_version()}", our_way(client), CHOICES),
        "theirs": (theirs, peer_way(peer), CHOICES),
        # It takes no "required": an assertion fails.
        HANDLER: (f"{theirs} {HANDLER}", handler_way(peer), ("auto",)),
    }
    given: Given = {}
    for number, case in enumerate(sample, 1):
        print(f"  {number} of {len(sample)}: {case.id}", file=sys.stderr, flush=True)
        for side, (who, way, choices) in ways.items():
            for choice in choices if case.category != "irrelevance" else ("auto",):
                given[side, choice, case.id] = answers.ask(who, way, case, choice)
    return given


def compared(
    what: str, sample: Sequence[Case], given: Given, choice: str, other: tuple[str, Reading, str]
) -> Row:
    """The row of these cases against one way and reading of the peer."""
    side, reading, peer = other
    ours = [(case, given["ours", choice, case.id]) for case in sample]
    theirs = [(case, given[side, choice, case.id]) for case in sample]
    right = sum(is_right(case, answer, as_calls) for case, answer in ours)
    their_right = sum(is_right(case, answer, reading) for case, answer in theirs)
    (low, high), (their_low, their_high) = (interval(n, len(ours)) for n in (right, their_right))
    note = f"n = {len(ours)}; 95%: {low:.2f} to {high:.2f}, {their_low:.2f} to {their_high:.2f}"
    errors = [sum(bool(answer.error) for _, answer in each) for each in (ours, theirs)]
    if any(errors):
        note += "; errors: {} and {}".format(*errors)
    return row(
        f"BFCL {what}, tool_choice {choice}",
        "share right",
        right / len(ours),
        peer,
        their_right / len(theirs),
        note=note,
    )


def table(sample: Sequence[Case], given: Given) -> list[Row]:
    """Every category against the peer's text read for tags, and sums against its other ways."""
    tagged = ("theirs", as_tagged, f"{PEER}, its text read for tags")
    read = ("theirs", as_read_by_us, f"{PEER}, its text read by our reader")
    itself = ("theirs", as_calls, f"{PEER}, its own tool_calls")
    handler = (HANDLER, as_calls, f"{PEER}, {HANDLER}")
    calling = [case for case in sample if case.category in CALLING]
    idle = [case for case in sample if case.category not in CALLING]
    rows = []
    for choice in CHOICES:
        for category in CATEGORIES if choice == "auto" else CALLING:
            members = [case for case in sample if case.category == category]
            rows.append(compared(category, members, given, choice, tagged))
        rows += [compared("calls", calling, given, choice, way) for way in (tagged, read, itself)]
    rows.append(compared("calls", calling, given, "auto", handler))
    rows += [compared("irrelevance", idle, given, "auto", way) for way in (read, handler)]
    return rows


def main() -> None:
    """Print the rows."""
    parser = argparse.ArgumentParser(description="AST accuracy on the shared BFCL part.")
    parser.add_argument(
        "--cases", type=int, default=CASES, metavar="N", help="of each category, %(default)s"
    )
    count = parser.parse_args().cases
    if count < 1:
        parser.error("--cases has to be at least 1")
    if not DATA.exists():
        skipped(f"BFCL: its data is not at {DATA}")
    if not DATA.exists() or not here((QWEN,)):
        print("[]")
        return
    sample = cases(count)
    client, peer = our_client(QWEN, n_ctx=CONTEXT), peer_model(QWEN, n_ctx=CONTEXT)
    print(json.dumps(table(sample, gather(sample, client, peer, Answers(KEPT)))))


if __name__ == "__main__":
    main()
