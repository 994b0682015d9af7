"""The benchmarks measure what they say, shown on sides that answer from memory."""

from __future__ import annotations

import importlib.util
import itertools
import json
import sys
from pathlib import Path
from typing import get_args

import pytest
from benchmarks import (
    bfcl,
    local_chat,
    local_json,
    local_parallel,
    local_settings,
    local_turns,
    measure,
)

from aideon_core import Client
from aideon_core.routing import Ability
from aideon_core.types import Completion, ToolCall, Usage
from aideon_testing import FakeBackend

ROOT = Path(__file__).parents[2]
COLUMNS = {"what", "unit", "ours", "peer", "theirs"}
MORE = {"target", "held", "note"}
SAID = Completion(text="One two three.", usage=Usage(10, 4))


def table():
    """The module that runs the benchmarks, which only its folder's name starts."""
    spec = importlib.util.spec_from_file_location("bench", ROOT / "benchmarks" / "__main__.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class FakePeer:
    """The peer's two calls, whole and streamed, and what they were asked."""

    def __init__(self, text="One two three.", tokens=4):
        self.text, self.tokens, self.asked = text, tokens, []

    def create_chat_completion(self, messages, *, stream=False, **params):
        self.asked.append((messages, params))
        if stream:
            words = ({"content": word} for word in self.text.split(" "))
            return ({"choices": [{"delta": delta}]} for delta in ({"role": "assistant"}, *words))
        return self._whole({"message": {"role": "assistant", "content": self.text}})

    def create_completion(self, prompt, **params):
        self.asked.append((prompt, params))
        return self._whole({"text": self.text})

    def _whole(self, choice):
        return {"choices": [choice], "usage": {"completion_tokens": self.tokens}}

    def close(self):
        pass


@pytest.fixture
def sides(monkeypatch):
    """Both sides as fakes, in every benchmark; gives our backend and the peers made."""
    can = frozenset(get_args(Ability))
    backend, peers = FakeBackend("local", side="local", answers=(SAID,), abilities=can), []

    def peer(*_model, **_options):
        peers.append(FakePeer())
        return peers[-1]

    for module in (local_chat, local_json, local_parallel, local_settings, local_turns, bfcl):
        monkeypatch.setattr(
            module, "our_client", lambda *_, **__: Client(local=backend, cloud=None)
        )
        monkeypatch.setattr(module, "peer_model", peer)
        monkeypatch.setattr(module, "here", list, raising=False)
    return backend, peers


def rows_of(module, capsys):
    module.main()
    rows = json.loads(capsys.readouterr().out.splitlines()[-1])
    line = table().line
    for row in rows:
        assert COLUMNS <= row.keys() <= COLUMNS | MORE
        assert line(row).count(" | ") == 7
    return rows


@pytest.mark.parametrize(
    ("module", "count"),
    [(local_chat, 1), (local_json, 2), (local_settings, 12), (local_turns, 2), (local_parallel, 7)],
)
def test_each_benchmark_prints_its_rows_last(module, count, sides, capsys):
    """The last line a benchmark prints is the JSON of rows that the table takes."""
    assert len(rows_of(module, capsys)) == count


def test_json_is_asked_of_both_sides_for_the_same_schema(sides, capsys):
    """Free and constrained answers have one prompt and one length, and one schema binds both."""
    backend, peers = sides
    rows_of(local_json, capsys)
    chat, completion = peers
    asked = {(request.messages[0].content, request.max_tokens) for request in backend.requests}
    assert asked == {(local_json.ASK, local_json.TOKENS)}
    schemas = [
        request.response_format["json_schema"]["schema"]
        for request in backend.requests
        if request.response_format
    ]
    assert schemas
    assert all(schema == local_json.SCHEMA for schema in schemas)
    assert len(schemas) * 2 == len(backend.requests)
    formats = [params.get("response_format") for _, params in chat.asked]
    assert formats.count({"type": "json_object", "schema": local_json.SCHEMA}) == len(formats) / 2
    assert sum("grammar" in params for _, params in completion.asked) == len(completion.asked) / 2


def test_settings_reach_the_peer_by_its_names(sides, capsys):
    """What our side takes as repetition_penalty, the peer gets as repeat_penalty."""
    rows_of(local_settings, capsys)
    peer = sides[1][0]
    assert any("repeat_penalty" in params for _, params in peer.asked)
    assert not any("repetition_penalty" in params for _, params in peer.asked)


def test_a_cold_prompt_begins_as_no_other(sides, capsys):
    """No prompt timed as cold shares its beginning with one that was read before."""
    rows_of(local_turns, capsys)
    seen, cold = [], 0
    for request in sides[0].requests:
        system = request.messages[0].text
        # A cold prompt carries a second number in front of that of its conversation.
        if system[:5].strip(":").isdigit() and system[6:10].isdigit():
            cold += 1
            assert not any(before.startswith(system[:5]) for before in seen)
        seen.append(system)
    assert cold == 2 * local_turns.ROUNDS * local_turns.CONVERSATIONS


def test_second_turns_go_on_from_the_answers_of_the_first(sides, capsys):
    """Every conversation's second turn holds its first one, word for word."""
    rows_of(local_turns, capsys)
    first = [r.messages for r in sides[0].requests if len(r.messages) == 2]
    second = [r.messages for r in sides[0].requests if len(r.messages) == 4]
    assert len(second) == 2 * len(first)
    for messages in first:
        (held,) = (turns for turns in second if turns[:2] == messages)
        assert held[2].content == SAID.text


def test_an_answer_that_changes_in_a_crowd_is_counted():
    """One answer that differs among threads is one mismatch; none is none."""
    many = local_parallel.WORKERS * len(local_parallel.CALLS)
    serial = [SAID] * len(local_parallel.CALLS)
    same = Client(local=FakeBackend("local", side="local", answers=serial), cloud=None)
    row = local_parallel.equality(same)
    assert (row["ours"], row["held"]) == (0, True)
    crowd = [*serial, *[SAID] * (many - 1), Completion(text="other", usage=Usage(1, 1))]
    other = Client(local=FakeBackend("local", side="local", answers=crowd), cloud=None)
    row = local_parallel.equality(other)
    assert (row["ours"], row["held"]) == (1, False)


def test_rates_are_medians_of_tokens_a_second(monkeypatch):
    """The first call of a way is not timed, and one slow round does not move its figure."""
    clock = [0.0]
    monkeypatch.setattr(measure.time, "perf_counter", lambda: clock[0])
    took = iter([100.0, 1.0, 2.0, 50.0])

    def way():
        clock[0] += next(took)
        return 10

    assert measure.rates({"it": way}, 3) == {"it": 5.0}


def test_a_target_is_held_or_missed():
    """A row tells whether the figure that the target names keeps to it."""

    def held(ours, theirs, target):
        return measure.row("w", "u", ours, "p", theirs, target=target)["held"]

    assert held(0.97, 0.5, ("Aideon", ">=", 0.97))
    assert not held(0.96, 0.5, ("Aideon", ">=", 0.97))
    assert held(14.0, 10.0, ("ratio", ">=", 1.4))
    assert not held(13.9, 10.0, ("ratio", ">=", 1.4))
    assert held(0, None, ("Aideon", "<=", 0))
    assert not held(1, None, ("ratio", ">=", 1.4))


@pytest.mark.parametrize(("right", "asked"), [(0, 10), (5, 10), (10, 10), (81, 263), (0, 0)])
def test_an_interval_holds_the_share(right, asked):
    """The interval lies within 0 and 1 and around the share, and narrows with more cases."""
    low, high = measure.interval(right, asked)
    assert 0 <= low < high <= 1
    if asked:
        assert low <= right / asked <= high
        more_low, more_high = measure.interval(right * 10, asked * 10)
        assert more_high - more_low < high - low
    # Wilson's figures for 81 of 263, from the literature.
    if (right, asked) == (81, 263):
        assert (round(low, 4), round(high, 4)) == (0.2553, 0.3662)


# The function-calling benchmark.

FUNCTION = {
    "name": "pkg.f",
    "description": "d",
    "parameters": {"type": "dict", "properties": {"x": {"type": "float"}}, "required": ["x"]},
}


@pytest.fixture
def small(monkeypatch, tmp_path):
    """Three cases of each category, and an empty folder for what is kept."""
    for category in bfcl.CATEGORIES:
        rows = [
            {
                "id": f"{category}_{number}",
                "question": [[{"role": "user", "content": f"{category} {number}?"}]],
                "function": [FUNCTION],
            }
            for number in range(3)
        ]
        truths = [{"id": row["id"], "ground_truth": [{"pkg.f": {"x": [1]}}]} for row in rows]
        (tmp_path / f"{category}.jsonl").write_text("\n".join(map(json.dumps, rows)))
        if category in bfcl.CALLING:
            text = "\n".join(map(json.dumps, truths))
            (tmp_path / f"{category}.answers.jsonl").write_text(text)
    monkeypatch.setattr(bfcl, "DATA", tmp_path)
    monkeypatch.setattr(bfcl, "KEPT", tmp_path / "kept.jsonl")
    monkeypatch.setattr(bfcl, "get_chat_completion_handler", lambda _name: handler)
    monkeypatch.setattr("sys.argv", ["bfcl"])


def handler(*, llama, messages, tools, **_):
    """A handler that calls the first tool where there is one that helps."""
    llama.create_completion(prompt="p", max_tokens=None)
    name = tools[0]["function"]["name"]
    called = {"tool_calls": [{"function": {"name": name, "arguments": '{"x": 1}'}}]}
    return {"choices": [{"message": {} if "irrel" in messages[0]["content"] else called}]}


def by_what(rows):
    return {(row["what"], row["peer"]): (row["ours"], row["theirs"]) for row in rows}


def test_right_calls_score_and_wrong_ones_do_not(small, sides, monkeypatch, capsys):
    """A side that always makes the right call scores 1 there, and 0 where none helps."""
    call = ToolCall("1", "pkg_f", '{"x": 1.0}')
    backend = FakeBackend("local", side="local", answers=(Completion(tool_calls=(call,)),))
    monkeypatch.setattr(bfcl, "our_client", lambda *_, **__: Client(local=backend, cloud=None))
    fenced = '```json\n{"name": "pkg_f", "arguments": {"x": 1}}\n```'
    monkeypatch.setattr(bfcl, "peer_model", lambda *_, **__: FakePeer(fenced))
    scores = by_what(rows_of(bfcl, capsys))
    peer = measure.PEER
    for category in bfcl.CALLING:
        for choice in bfcl.CHOICES:
            what = f"BFCL {category}, tool_choice {choice}"
            assert scores[what, f"{peer}, its text read for tags"] == (1, 0)
    idle = "BFCL irrelevance, tool_choice auto"
    assert scores[idle, f"{peer}, its text read for tags"] == (0, 1)
    assert scores[idle, f"{peer}, its text read by our reader"] == (0, 0)
    assert scores[idle, f"{peer}, {bfcl.HANDLER}"] == (0, 1)
    calls = "BFCL calls, tool_choice auto"
    assert scores[calls, f"{peer}, its text read by our reader"] == (1, 1)
    assert scores[calls, f"{peer}, its own tool_calls"] == (1, 0)
    assert scores[calls, f"{peer}, {bfcl.HANDLER}"] == (1, 1)


def test_answers_are_kept_for_the_next_run(small, sides, capsys):
    """A run asks nothing that one before had answered, even one that was cut off in a line."""
    first = rows_of(bfcl, capsys)
    asked = len(sides[0].requests)
    assert asked == 3 * (2 * len(bfcl.CALLING) + 1)
    assert rows_of(bfcl, capsys) == first
    assert len(sides[0].requests) == asked
    bfcl.KEPT.write_text(bfcl.KEPT.read_text()[:-9])
    assert rows_of(bfcl, capsys) == first


def test_an_error_is_a_wrong_answer_and_told(small, sides, monkeypatch, capsys):
    """A side that fails is not right, not even where no call was wanted, and the note says so."""

    def fails(*_, **__):
        raise ValueError("no")

    monkeypatch.setattr(FakePeer, "create_chat_completion", fails)
    rows = [row for row in rows_of(bfcl, capsys) if "tags" in row["peer"]]
    assert all(row["theirs"] == 0 for row in rows)
    assert all("errors: 0 and" in row["note"] for row in rows)


@pytest.mark.parametrize("arguments", ["{", "[1]", "null", '"x"'])
def test_arguments_that_are_no_object_are_wrong(arguments, small):
    """They are neither a right call nor the absence of one."""
    answer = bfcl.Answer(calls=(("pkg_f", arguments),))
    for case in bfcl.cases(1):
        assert not bfcl.is_right(case, answer, bfcl.as_calls)


def test_the_handler_of_the_peer_is_bounded():
    """It gets a limit for each answer, and an error instead of calls without end."""
    peer = FakePeer()
    bounded = bfcl._Bounded(peer)
    for _ in range(bfcl.HANDLER_ASKS):
        bounded.create_completion(prompt="p", max_tokens=None)
    with pytest.raises(RuntimeError, match="without end"):
        bounded.create_completion(prompt="p")
    assert {params["max_tokens"] for _, params in peer.asked} == {bfcl.TOKENS}


@pytest.mark.parametrize("count", [1, 2, 3, 50])
def test_a_sample_is_the_same_every_time(count, small):
    """So many of each category at most, each once, and the same ones again."""
    ids = [case.id for case in bfcl.cases(count)]
    assert len(ids) == len(set(ids)) == 4 * min(count, 3)
    assert ids == [case.id for case in bfcl.cases(count)]


def test_missing_data_is_said_and_skipped(monkeypatch, tmp_path, sides, capsys):
    """Without the data there are no rows and a line that tells where it was looked for."""
    monkeypatch.setattr(bfcl, "DATA", tmp_path / "none")
    monkeypatch.setattr("sys.argv", ["bfcl"])
    bfcl.main()
    seen = capsys.readouterr()
    assert seen.out == "[]\n"
    assert str(tmp_path / "none") in seen.err


def test_every_benchmark_named_is_there():
    """The names that can be given are modules beside the one that runs them."""
    for name in table().BENCHMARKS:
        assert (ROOT / "benchmarks" / f"{name}.py").is_file(), name


def test_a_name_that_is_none_is_refused(capsys):
    """Nothing is installed or run for a benchmark that does not exist."""
    assert table().main(["nothing", "--cases", "3"]) == 2
    assert "nothing" in capsys.readouterr().out


ONE = """\
import json, sys
print("on its way")
row = {"what": " ".join(sys.argv[1:]), "unit": "u", "ours": 2, "peer": "p", "theirs": 0}
print(json.dumps([{**row, "target": "Aideon <= 1", "held": False, "note": "why"}]))
"""


def test_rows_reach_the_results_and_the_table(monkeypatch, tmp_path, capsys):
    """A benchmark gets the options, its rows are published, one left out keeps its old ones."""
    bench = table()
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "benchmarks" / "one.py").write_text(ONE)
    (tmp_path / "benchmarks" / "two.py").write_text("print([])")
    results = tmp_path / "results.json"
    old = {"what": "old", "unit": "u", "ours": 1, "peer": "p", "theirs": None}
    results.write_text(json.dumps({"one": [old], "two": [old]}))
    monkeypatch.setattr(bench, "BENCHMARKS", ("one", "two"))
    monkeypatch.setattr(bench, "PYTHON", sys.executable)
    monkeypatch.setattr(bench, "prepare", lambda: None)
    monkeypatch.setattr(bench, "ROOT", tmp_path)
    monkeypatch.setattr(bench, "RESULTS", results)
    monkeypatch.setattr(bench, "TABLE", tmp_path / "table.md")
    assert bench.main(["one", "two", "--cases", "3"]) == 0
    kept = json.loads(results.read_text())
    assert kept["two"] == [old]
    assert kept["one"][0]["what"] == "--cases 3"
    shown = (tmp_path / "table.md").read_text()
    assert "| --cases 3 | u | 2 | p | 0 |  | Aideon <= 1: missed | why |\n" in shown
    assert "| old | u | 1 | p | - |  |  |  |\n" in shown
    assert shown.endswith(bench.METHOD.read_text())


def test_prompts_are_told_apart_by_number():
    """No two beginnings are the same."""
    made = list(itertools.islice(iter(local_turns.fresh, None), 50))
    assert len(set(made)) == len(made)
