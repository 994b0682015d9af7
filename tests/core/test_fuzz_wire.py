"""Anything at all on the wire: it is read or refused, in linear time.

``FUZZ_CASES=100000 pytest tests/core/test_fuzz_wire.py`` tries that many cases, in less than a
minute; without it, a fifth of them are tried.
"""

from __future__ import annotations

import copy
import json
import os
import random
import time
from functools import cache
from pathlib import Path

import pytest
import yaml

from aideon_core.backends import wire
from aideon_core.errors import BackendError, ServerError
from aideon_core.types import Completion, Message, Request, TokenLogprob, ToolCall, Usage

RECORDINGS = Path(__file__).parents[2].parent / "shared" / "together" / "recordings"
CASES = int(os.environ.get("FUZZ_CASES", "20000"))
# Each of three tests tries two cases a round.
ROUNDS = CASES // 6
MODELS = ("", "openai/gpt-oss-20b", "Qwen/Qwen3-4B-Thinking-2507")
REQUESTS = (
    None,
    Request((Message("user", "Hi"),)),
    Request((Message("user", "Hi"),), n=3),
    Request((Message("user", "Hi"),), logprobs=True, response_format={"type": "json_object"}),
)
KEYS = [
    "id", "model", "choices", "index", "message", "delta",
    "content", "text", "reasoning", "reasoning_content", "reasoning_details", "tool_calls",
    "function_call", "function", "name", "arguments", "finish_reason", "logprobs",
    "top_logprobs", "tokens", "token_logprobs", "token", "logprob", "usage",
    "prompt_tokens", "completion_tokens", "prompt_tokens_details", "cached_tokens",
    "x_groq", "warnings",
    "error", "detail", "errors", "msg", "loc", "param",
    "code", "refusal", "new_field",
]  # fmt: skip
SCALARS = (
    None, True, False, 0, 1, -1, 2**63, 10**30, -1.5, 12.0, 1e308, float("inf"), float("nan"),
    "", "x", "stop", "eos", "error", "tool_calls", "<think>", "</think>", "<", "\n", "\ud83d",
    "call_1", "{}", '{"a": 1', [], {}, [[]], [{}], [None], {"": ""},
)  # fmt: skip


def generated(dice, depth=5):
    """Some JSON that mentions what the wire mentions."""
    if depth == 0 or dice.random() < 0.3:
        return copy.deepcopy(dice.choice(SCALARS))
    parts = [generated(dice, depth - 1) for _ in range(dice.randrange(5))]
    if dice.random() < 0.3:
        return parts
    return {dice.choice(KEYS): part for part in parts}


def shaped(dice):
    """JSON that is an answer or a frame as far as the choice, and anything below."""
    choices = []
    for index in range(dice.choice((1, 1, 2, 4))):
        choice = {"index": index, dice.choice(("delta", "message")): generated(dice, 4)}
        choice |= {dice.choice(KEYS): generated(dice, 3) for _ in range(dice.randrange(4))}
        choices.append(choice)
    return {"choices": choices}


def nodes(value):
    """Every place in a value, as its holder and key."""
    found, waiting = [], [value]
    while waiting:
        holder = waiting.pop()
        if isinstance(holder, dict | list):
            keys = list(holder) if isinstance(holder, dict) else range(len(holder))
            found += [(holder, key) for key in keys]
            waiting += [holder[key] for key in keys]
    return found


def mutated(dice, value):
    """A copy with some parts removed, replaced, renamed, repeated or exchanged."""
    value = json.loads(json.dumps(value))
    for _ in range(dice.randint(1, 4)):
        places = nodes(value)
        if not places:
            return value
        (holder, key), (other, other_key) = dice.choice(places), dice.choice(places)
        match dice.randrange(5):
            case 0:
                del holder[key]
            case 1:
                holder[key] = copy.deepcopy(dice.choice(SCALARS))
            case 2:
                holder[key] = generated(dice, 3)
            case 3:
                holder[key] = copy.deepcopy(other[other_key])
            case 4 if isinstance(holder, dict):
                holder[dice.choice(KEYS)] = holder.pop(key)
    return value


@cache
def recorded():
    """Recorded chat bodies, and recorded streams as lists of frames."""
    bodies, streams = [], []
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    for path in sorted((RECORDINGS / "maruel-genai").rglob("*.yaml"))[::2]:
        for each in yaml.load(path.read_text(encoding="utf-8"), loader)["interactions"]:
            body = each["response"].get("body")
            if "/chat/completions" not in each["request"]["url"] or not isinstance(body, str):
                continue
            lines = [line[6:] for line in body.splitlines() if line.startswith("data: {")]
            if lines:
                streams.append([json.loads(line) for line in lines[:3] + lines[-6:]])
            elif body.startswith("{"):
                bodies.append(json.loads(body))
    return bodies, streams


def check(completion):
    """Every field of an answer is of its type, so that nothing strange reaches a caller."""
    assert type(completion) is Completion
    assert type(completion.text) is str
    assert type(completion.reasoning) is str
    assert completion.finish_reason in (None, "stop", "length", "tool_calls", "content_filter")
    assert type(completion.usage) in (Usage, type(None))
    if completion.usage:
        assert type(completion.usage.total_tokens) is int
        assert completion.usage.total_tokens >= 0
    assert all(type(call) is ToolCall for call in completion.tool_calls)
    assert all(type(call.arguments) is str for call in completion.tool_calls)
    assert all(type(each) is TokenLogprob for each in completion.logprobs)
    assert all(type(each) is str for each in completion.warnings)
    assert repr(copy.deepcopy(completion))
    for alternative in completion.alternatives:
        assert not alternative.alternatives
        check(alternative)


def read_whole(dice, body):
    """Whether the body is an answer; it is checked if it is."""
    try:
        data = json.dumps(body)
        completion = wire.completion_of(
            wire.parsed(data), model=dice.choice(MODELS), request=dice.choice(REQUESTS)
        )
    except ServerError:
        return False
    check(completion)
    completion.text.encode()
    assert completion.finish_reason is not None
    return True


def read_stream(dice, frames):
    """Whether the frames are an answer; what came before an error is checked too."""
    reader = wire.AnswersReader(dice.choice(MODELS), dice.choice(REQUESTS))
    chunks = []
    try:
        for frame in frames:
            chunks += reader.read(frame if isinstance(frame, str) else json.dumps(frame))
        chunks += reader.read("[DONE]")
    except ServerError:
        return False
    finally:
        chunks += reader.close()
        check(Completion.from_chunks(chunks))
    return reader.finished


def dice_for(case):
    """Every case has its own dice, so that a failing one can be thrown again."""
    return random.Random(f"wire {case}")


@pytest.mark.slow
def test_any_json_is_an_answer_or_an_error():
    """Made-up bodies and frames are read or refused, and nothing else happens."""
    answers = 0
    for case in range(ROUNDS):
        dice = dice_for(case)
        body = shaped(dice) if case % 3 else generated(dice)
        answers += read_whole(dice, body)
        answers += read_stream(dice, [body, shaped(dice)])
    assert answers > ROUNDS / 10


@pytest.mark.slow
@pytest.mark.skipif(not RECORDINGS.exists(), reason="the shared recordings are not here")
def test_a_damaged_recording_is_an_answer_or_an_error():
    """Recorded answers with parts broken, lost or exchanged are read or refused."""
    bodies, streams = recorded()
    answers = 0
    for case in range(ROUNDS):
        dice = dice_for(case)
        answers += read_whole(dice, mutated(dice, dice.choice(bodies)))
        answers += read_stream(dice, mutated(dice, dice.choice(streams)))
    assert answers > ROUNDS / 2


@pytest.mark.slow
@pytest.mark.skipif(not RECORDINGS.exists(), reason="the shared recordings are not here")
def test_damaged_bytes_are_an_answer_or_an_error():
    """Bodies with bytes flipped, lost or cut off are read or refused, whatever their status."""
    bodies, streams = recorded()
    for case in range(ROUNDS):
        dice = dice_for(case)
        data = bytearray(json.dumps(dice.choice(bodies)).encode())
        for _ in range(dice.randint(1, 8)):
            data[dice.randrange(len(data))] = dice.randrange(256)
        data = bytes(data[: dice.randint(0, 2 * len(data))])
        try:
            check(wire.completion_of(wire.parsed(data)))
        except ServerError as error:
            assert str(error)
        failure = wire.failure_of(
            dice.choice((400, 404, 429, 500)), {}, data, backend=None, model=None, where="it"
        )
        assert isinstance(failure, BackendError)
        lines = [json.dumps(frame) for frame in dice.choice(streams)]
        hurt = dice.randrange(len(lines))
        at = dice.randrange(len(lines[hurt]))
        lines[hurt] = lines[hurt][:at] + chr(dice.randrange(0xD7FF)) + lines[hurt][at + 1 :]
        read_stream(dice, lines)


def seconds(work, size):
    """The least time that work of that size takes in three tries."""
    best = float("inf")
    for _ in range(3):
        made = work(size)
        start = time.process_time()
        made()
        best = min(best, time.process_time() - start)
    return best


def of_answer(content, model="Thinking-2507", **message):
    body = {"choices": [{"message": {"content": content} | message}]}
    return lambda: wire.completion_of(body, model=model)


def of_stream(frames, model="Thinking-2507"):
    def read():
        reader = wire.FrameReader(model)
        chunks = [reader.read(frame) for frame in frames]
        chunks.append(reader.close())
        Completion.from_chunks(chunk for chunk in chunks if chunk is not None)

    return read


def content_frames(content, size):
    """That many characters, a thousand or so in each frame."""
    content *= 1000 // len(content)
    return [json.dumps({"choices": [{"delta": {"content": content}}]})] * (size // 1000)


def call_frames(size, **piece):
    calls = [piece | {"function": {"name": "f", "arguments": "x"}}]
    frame = {"choices": [{"delta": {"tool_calls": calls}, "tool_calls": calls}]}
    return [json.dumps(frame)] * (size // 1000)


def refusal(body):
    return lambda: wire.failure_of(400, {}, body, backend=None, model=None, where="it")


WORK = {
    "text": lambda n: of_answer("x" * n),
    "tags": lambda n: of_answer("</think" * (n // 7), "m"),
    "line ends in a thought": lambda n: of_answer("<think>" + "\n" * n),
    "white space": lambda n: of_answer(" " * n),
    "calls": lambda n: of_answer("", tool_calls=[{"function": {"name": "f"}}] * (n // 50)),
    "unknown fields": lambda n: of_answer("", **{f"f{i}": i for i in range(n // 50)}),
    "frames of text": lambda n: of_stream(content_frames("x", n), "m"),
    "frames of white space": lambda n: of_stream(content_frames(" ", n)),
    "frames of line ends": lambda n: of_stream(
        [*content_frames("a", 1000), *content_frames("\n", n)]
    ),
    "frames of half a tag": lambda n: of_stream(content_frames("<", n)),
    "frames of calls": lambda n: of_stream(call_frames(n, index=-1)),
    "frames of calls by id": lambda n: of_stream(call_frames(n, index=-1, id="c")),
    "one long frame": lambda n: of_stream(
        [f'{{"choices":[{{"delta":{{"content":"{"<think>" * (n // 7)}"}}}}]}}']
    ),
    "plain error": lambda n: refusal(b"x" * n),
    "web page": lambda n: refusal(b"<html><title" * (n // 12)),
    "error of spaces": lambda n: refusal(json.dumps({"error": " tokens" * (n // 7)}).encode()),
    "list of errors": lambda n: refusal(json.dumps({"errors": ["", {}] * (n // 8)}).encode()),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", WORK)
def test_reading_takes_linear_time(name):
    """Ten times as much takes about ten times as long, up to ten million characters."""
    # Work that takes next to no time has no slope to be measured.
    small, large = (seconds(WORK[name], size) for size in (1_000_000, 10_000_000))
    # Quadratic work would take a hundred times as long; the machine may be busy.
    assert large < 0.1 + 60 * small


DEEP_PLACES = (
    "DEEP",
    '{"error":DEEP}',
    '{"choices":[{"message":{"content":"x"}}],"deep":DEEP}',
    '{"choices":[{"message":{"content":DEEP}}]}',
    '{"choices":[{"message":{"tool_calls":[{"function":{"arguments":DEEP}}]}}]}',
    '{"choices":[{"delta":{"content":DEEP},"logprobs":DEEP}]}',
)


@pytest.mark.parametrize("depth", [*range(700, 1000, 3), 1_100, 100_000])
def test_no_depth_is_too_deep(depth):
    """JSON nested without end is read or refused, wherever it stands."""
    for opening, closing in (("[", "]"), ('{"a":', "}"), ('{"error":', "}"), ('{"message":', "}")):
        deep = opening * depth + "1" + closing * depth
        for frame in DEEP_PLACES:
            text = frame.replace("DEEP", deep)
            for read in (
                lambda data: wire.completion_of(wire.parsed(data)),
                wire.FrameReader().read,
            ):
                try:
                    repr(read(text))
                except ServerError as error:
                    assert str(error)
            failure = wire.failure_of(400, {}, text.encode(), backend=None, model=None, where="it")
            assert isinstance(failure, BackendError)
