"""What the local engine promises, held against a model that says anything at all."""

from __future__ import annotations

import gc
import json
import multiprocessing
import os
import random
import re
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import jsonschema
import pytest

from aideon_core import Client, Completion, LlamaCppBackend
from aideon_core.backends.llama_cpp.engine import Engine
from aideon_core.config import Config
from aideon_core.errors import (
    BadRequest,
    ContextTooLong,
    LoadFailed,
    NoChatTemplate,
    QueueFull,
    TimedOut,
)
from aideon_core.tools.streaming import CallStream

pytest.importorskip("llama_cpp")

from .tiny_models import TRAINED, write_chat_model

CONTEXT = 512
TOOLS = {
    "weather": {
        "type": "object",
        "properties": {
            "city": {"type": "string", "maxLength": 12},
            "unit": {"enum": ["C", "F"]},
            "days": {"type": "integer", "minimum": 1, "maximum": 9},
        },
        "required": ["city", "unit"],
        "additionalProperties": False,
    },
    "add": {
        "type": "object",
        "properties": {"terms": {"type": "array", "items": {"type": "number"}, "maxItems": 4}},
        "required": ["terms"],
        "additionalProperties": False,
    },
    "now": {"type": "object", "properties": {}},
}
SCHEMAS = {
    "flat": TOOLS["weather"],
    "nested": {
        "type": "object",
        "properties": {
            "a": {
                "type": "object",
                "properties": {"b": {"type": "array", "items": TOOLS["add"], "maxItems": 2}},
                "required": ["b"],
            }
        },
        "required": ["a"],
    },
    "enum": {"enum": ["red", "green", 3, None, {"x": [1, 2]}]},
    "const": {"const": {"fixed": "yes"}},
    "ref": {
        "$ref": "#/$defs/node",
        "$defs": {
            "node": {
                "type": "object",
                "properties": {"v": {"type": "boolean"}, "next": {"$ref": "#/$defs/leaf"}},
                "required": ["v", "next"],
                "additionalProperties": False,
            },
            "leaf": {"type": ["integer", "null"]},
        },
    },
    "recursive": {
        "$ref": "#/$defs/tree",
        "$defs": {
            "tree": {
                "type": "object",
                "properties": {"kids": {"type": "array", "items": {"$ref": "#/$defs/tree"}}},
                "required": ["kids"],
                "additionalProperties": False,
            }
        },
    },
    "union": {"anyOf": [{"type": "integer"}, {"type": "string", "maxLength": 5}, TOOLS["add"]]},
    "array": {"type": "array", "items": {"enum": ["x", "y"]}, "minItems": 2, "maxItems": 5},
    "pair": {
        "type": "array",
        "prefixItems": [{"type": "boolean"}, {"type": "null"}],
        "items": False,
        "minItems": 2,
    },
    "pattern": {"type": "string", "pattern": "^[a-f]{2,4}-[0-9]{3}$"},
    "date": {"type": "string", "format": "date"},
    "range": {"type": "integer", "minimum": -5, "maximum": 117},
    "text": {"type": "string", "minLength": 3, "maxLength": 9},
    "anything": {},
}
LONG = "Tell me everything about the user and the system. " * 3


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("chat")
    write_chat_model(folder / "bytes.gguf")
    write_chat_model(folder / "pieces.gguf", spm=True)
    write_chat_model(folder / "other.gguf", seed=8)
    write_chat_model(folder / "base.gguf", template=None)
    return folder


def client_of(path, **options):
    options = {"n_ctx": CONTEXT, "n_threads": 1} | options
    return Client(local=LlamaCppBackend(path, **options), cloud=None, max_retries=0)


@pytest.fixture(scope="module", params=["bytes", "pieces"])
def client(request, folder):
    return client_of(folder / f"{request.param}.gguf", n_ctx=1024)


def schema_format(schema):
    return {"type": "json_schema", "json_schema": {"name": "it", "schema": schema}}


def tool(name):
    return {"type": "function", "function": {"name": name, "parameters": TOOLS[name]}}


def asked(choice):
    """Arguments of a request that lets the model call tools."""
    named = choice if choice in ("auto", "required") else {"type": "function"}
    if isinstance(named, dict):
        named["function"] = {"name": choice}
    return {"messages": "Go", "tools": [tool(name) for name in TOOLS], "tool_choice": named}


def seen(answer):
    """What an answer says, without the ids that differ each time."""
    calls = [(call.name, call.arguments) for call in answer.tool_calls]
    usage = (answer.usage.input_tokens, answer.usage.output_tokens) if answer.usage else None
    return answer.text, calls, answer.finish_reason, usage


@pytest.mark.parametrize("parallel", [True, False])
@pytest.mark.parametrize("choice", ["auto", "required", "weather", "add", "now"])
def test_calls_always_fit_their_tools(client, choice, parallel):
    """Whatever the model would rather say, a finished answer's calls are valid, and required."""
    finished = 0
    for seed in range(8):
        ask = asked(choice) | {"temperature": 1 + seed / 8, "seed": seed, "max_tokens": 300}
        answer = client.chat(**ask, parallel_tool_calls=parallel)
        assert not answer.warnings
        streamed = Completion.from_chunks(client.stream(**ask, parallel_tool_calls=parallel))
        assert seen(streamed) == seen(answer)
        calls = answer.tool_calls
        assert len({call.id for call in calls}) == len(calls)
        if answer.finish_reason == "length":
            assert answer.usage.output_tokens == 300
            continue
        finished += 1
        assert answer.finish_reason == ("tool_calls" if calls else "stop")
        for call in calls:
            jsonschema.validate(json.loads(call.arguments), TOOLS[call.name])
        if choice != "auto":
            assert calls
            assert not answer.text.strip()
        if choice in TOOLS:
            assert [call.name for call in calls] == [choice]
        if not parallel:
            assert len(calls) <= 1
    assert finished


@pytest.mark.parametrize("name", SCHEMAS)
def test_answers_always_fit_their_schema(client, name):
    """An answer that came to its end is valid JSON for its schema, at any temperature."""
    schema, finished = SCHEMAS[name], 0
    for seed in range(12):
        answer = client.chat(
            "Go",
            response_format=schema_format(schema),
            temperature=0 if not seed else 0.5 + seed / 8,
            seed=seed,
            max_tokens=300,
        )
        if answer.finish_reason == "stop":
            finished += 1
            jsonschema.Draft202012Validator(schema).validate(json.loads(answer.text))
        else:
            assert answer.finish_reason == "length"
    assert finished


@pytest.mark.parametrize("pattern", [r"[a-z]{3,8}@[a-z]+\.(de|com)", r"(ja|nein)", r"[0-9]{4}|x+y"])
def test_answers_match_their_regex(client, pattern):
    """An answer held to a regex matches it whole."""
    for seed in range(12):
        form = {"type": "regex", "pattern": pattern}
        answer = client.chat("Go", response_format=form, temperature=2, seed=seed, max_tokens=200)
        assert answer.finish_reason == "length" or re.fullmatch(pattern, answer.text)


def test_tools_and_a_schema_together(client):
    """With both in auto, an answer is valid calls or a valid object."""
    kinds = set()
    for seed in range(16):
        form = schema_format(SCHEMAS["flat"])
        ask = asked("auto") | {"temperature": 1.5, "seed": seed, "max_tokens": 300}
        answer = client.chat(**ask, response_format=form)
        kinds.add(answer.finish_reason)
        if answer.finish_reason == "tool_calls":
            for call in answer.tool_calls:
                jsonschema.validate(json.loads(call.arguments), TOOLS[call.name])
        elif answer.finish_reason == "stop":
            jsonschema.validate(json.loads(answer.text), SCHEMAS["flat"])
    assert {"stop", "tool_calls"} & kinds


def test_stop_strings_never_show(client):
    """A stop string ends the answer before its first character, in one piece or streamed."""
    stopped = 0
    for seed in range(30):
        ask = {"messages": "Go", "temperature": 1.3, "seed": seed, "max_tokens": 120}
        free = client.chat(**ask)
        stops = ["0", free.text[3:5] or "a", "\U0001f994"]
        whole = client.chat(**ask, stop=stops)
        assert seen(Completion.from_chunks(client.stream(**ask, stop=stops))) == seen(whole)
        assert not any(stop in whole.text for stop in stops)
        assert free.text.startswith(whole.text)
        if whole.text != free.text:
            stopped += 1
            assert whole.finish_reason == "stop"
    assert stopped


@pytest.mark.parametrize("tokens", [1, 2, 7, 64])
def test_max_tokens_is_exact_and_counted(client, tokens):
    """An answer that was cut has exactly so many tokens, as each of its logprobs tells."""
    for seed in range(8):
        ask = {"messages": "Go", "temperature": 1, "seed": seed, "max_tokens": tokens}
        chunks = list(client.stream(**ask, logprobs=True))
        answer = Completion.from_chunks(chunks)
        assert sum(len(chunk.logprobs) for chunk in chunks) == answer.usage.output_tokens
        if answer.finish_reason == "length":
            assert answer.usage.output_tokens == tokens
        else:
            assert answer.usage.output_tokens < tokens
        assert client.chat(**ask).text == answer.text


@pytest.mark.parametrize("parallel", [1, 4])
def test_several_answers_are_those_of_their_seeds(folder, parallel):
    """n=3 gives what three seeds give one by one, however many are written at once."""
    client = client_of(folder / "bytes.gguf", parallel=parallel)
    ask = {"messages": "Go", "temperature": 1.2, "max_tokens": 60}
    three = client.chat(**ask, seed=20, n=3)
    alone = [client.chat(**ask, seed=20 + n) for n in range(3)]
    assert [three.text, *(each.text for each in three.alternatives)] == [a.text for a in alone]
    assert three.usage.output_tokens == sum(each.usage.output_tokens for each in alone)
    assert three.usage.input_tokens == alone[0].usage.input_tokens


@pytest.mark.parametrize("name", ["flat", "nested", "ref", "array"])
def test_any_beginning_of_an_answer_goes_on_to_a_valid_one(client, name):
    """Cut at any character, an answer under a schema goes on to text that is valid as a whole."""
    ask = {"messages": "Go", "response_format": schema_format(SCHEMAS[name]), "max_tokens": 300}
    whole = next(
        answer.text
        for seed in range(20)
        if (answer := client.chat(**ask, temperature=1, seed=seed)).finish_reason == "stop"
    )
    finished = 0
    for cut in range(len(whole)):
        rest = client.chat(**ask, temperature=1, seed=cut, prefix=whole[:cut])
        if rest.finish_reason == "stop":
            finished += 1
            jsonschema.validate(json.loads(whole[:cut] + rest.text), SCHEMAS[name])
    assert finished > len(whole) / 4


def test_any_beginning_of_a_call_goes_on_to_a_valid_one(client):
    """Cut at any character, a required call goes on to one that is valid as a whole."""
    begun = '<tool_call>\n{"name": "add", "arguments": {"terms": [1, 2.5'
    for cut in range(1, len(begun) + 1):
        ask = asked("add") | {"temperature": 1, "seed": cut, "max_tokens": 300}
        answer = client.chat(**ask, prefix=begun[:cut])
        if answer.finish_reason == "tool_calls":
            (call,) = answer.tool_calls
            shown = Completion.from_chunks(CallStream(TOOLS).feed(begun[:cut])).tool_calls
            whole = "".join(each.arguments for each in (*shown, call))
            jsonschema.validate(json.loads(whole), TOOLS["add"])


def test_a_free_answer_goes_on_as_it_would_have(client):
    """From any of its own tokens on, a greedy answer continues to the same text."""
    # Capital letters are tokens that join no others, so that their text has the same tokens.
    letters = {"bytes.gguf": 0, "pieces.gguf": 258}[client.chat("Hi", max_tokens=1).model]
    bias = {letters + ord(letter) - 33: 100 for letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZ"}
    ask = {"messages": "Hello there", "temperature": 0, "logit_bias": bias}
    whole = client.chat(**ask, max_tokens=40).text
    assert len(set(whole)) > 1
    for cut in range(1, len(whole)):
        rest = client.chat(**ask, prefix=whole[:cut], max_tokens=40 - cut).text
        assert whole[:cut] + rest == whole


def random_ask(draw):
    """A request whose answer is the same every time it is asked, or the same error."""
    ask = {"messages": LONG[: draw.randrange(1, len(LONG))] + str(draw.randrange(40))}
    ask |= {"max_tokens": draw.randrange(1, 50), "temperature": 0}
    if draw.random() < 0.6:
        ask |= {"temperature": draw.choice([0.7, 1.5]), "seed": draw.randrange(5)}
    kind = draw.randrange(8)
    if kind == 0:
        ask |= asked(draw.choice(["auto", "required", "add"])) | {"messages": ask["messages"]}
    elif kind == 1:
        ask["response_format"] = schema_format(SCHEMAS[draw.choice([*SCHEMAS])])
    elif kind == 2:
        ask["messages"] *= 1 + CONTEXT // len(LONG) * 8
    elif kind == 3:
        ask["response_format"] = schema_format({"type": "nothing"})
    elif kind == 4:
        ask |= {"prefix": "AB", "stop": ["0", "."]}
    elif kind == 5:
        ask |= {"logit_bias": {99999: 1}}
    return ask


def outcome(client, ask):
    try:
        return seen(client.chat(**ask))
    except (BadRequest, ContextTooLong) as error:
        return type(error), error.message


def disturb(client, draw):
    """Ask for something and not wait for the end of it."""
    with client.stream("Go on " * draw.randrange(1, 80), temperature=1) as stream:
        for _ in range(draw.randrange(4)):
            next(stream, None)
    with suppress(TimedOut, QueueFull):
        client.chat("Go", max_tokens=200, temperature=1, deadline=draw.choice([0.001, 0.01]))


@pytest.mark.parametrize("parallel", [1, 2, 4])
def test_whatever_happens_beside_it_an_answer_is_the_same(folder, parallel):
    """Many threads that ask, fail, go away and run out of time change no bit of any answer."""
    draw = random.Random(parallel)
    asks = [random_ask(draw) for _ in range(48)]
    calm = client_of(folder / "bytes.gguf", parallel=1)
    expected = [outcome(calm, ask) for ask in asks]
    assert len({each[0] for each in expected if isinstance(each[0], type)}) == 2
    busy = client_of(folder / "bytes.gguf", parallel=parallel)
    threads = threading.active_count()

    def work(at):
        if at % 3 == 2:
            disturb(busy, random.Random(at))
        return outcome(busy, asks[at])

    with ThreadPoolExecutor(12) as pool:
        pending = [pool.submit(work, at) for at in range(len(asks))]
        assert [each.result(timeout=30) for each in pending] == expected
    began = time.monotonic()
    assert busy.chat("Go", max_tokens=1, deadline=5).usage.output_tokens <= 1
    assert time.monotonic() - began < 1
    assert threading.active_count() <= threads + 1


def test_memory_does_not_grow(folder):
    """Hundreds of answers, errors and abandoned streams leave no memory behind."""
    statm = Path("/proc/self/statm")
    if not statm.exists():
        pytest.skip("this system does not tell how much memory a process has")
    client = client_of(folder / "bytes.gguf", parallel=2)

    def resident():
        gc.collect()
        return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGESIZE")

    def rounds(count):
        draw = random.Random(1)
        for _ in range(count):
            outcome(client, random_ask(draw))
            disturb(client, draw)

    rounds(60)
    before = resident()
    rounds(120)
    assert resident() - before < 8_000_000


def test_a_prompt_that_just_fits_gets_its_one_token(folder):
    """One token less than the context is answered with one token; the whole context is refused."""
    client = client_of(folder / "bytes.gguf", n_ctx=256, parallel=1)
    template = client.chat("A", max_tokens=1).usage.input_tokens - 1
    answer = client.chat("A" * (255 - template), temperature=0)
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (255, 1)
    assert answer.finish_reason in ("length", "stop")
    with pytest.raises(ContextTooLong, match="256 tokens"):
        client.chat("A" * (256 - template))
    assert client.chat("A" * (250 - template), temperature=0, n=3).usage.output_tokens <= 18


@pytest.mark.parametrize("n_ctx", [1, 8, 40, TRAINED, 100_000])
def test_a_context_of_any_size_works_or_says_so(folder, n_ctx):
    """A small context refuses clearly or answers in what room there is; a large one is cut."""
    client = client_of(folder / "bytes.gguf", n_ctx=n_ctx, parallel=1)
    try:
        answer = client.chat("Hi", temperature=0, max_tokens=3000)
    except ContextTooLong as error:
        assert n_ctx < 40
        assert "context holds" in error.message
    else:
        used = answer.usage.input_tokens + answer.usage.output_tokens
        assert used <= min(TRAINED, max(n_ctx, 256))


def test_a_base_model_says_that_it_has_no_template(folder):
    """A file without a chat template is refused, and answers with one that is given."""
    with pytest.raises(NoChatTemplate):
        client_of(folder / "base.gguf").chat("Hi")
    given = client_of(folder / "base.gguf", chat_template="{{ messages[0].content }}:")
    assert given.chat("Hi", max_tokens=3, temperature=0).usage.input_tokens == 3


def test_a_model_nobody_holds_leaves_memory(folder):
    """Once clients are gone, so are the engine and its thread, amid an answer or not."""
    path = write_chat_model(folder / "alone.gguf")
    client = client_of(path)
    stream = client.stream("Go", temperature=2, logit_bias={17: 30})
    next(stream)
    assert running(path) == 1
    stream.close()
    client.close()
    del client, stream
    deadline = time.monotonic() + 5
    while running(path) and time.monotonic() < deadline:
        gc.collect()
        time.sleep(0.01)
    assert not running(path)
    assert not any(options.path == path for options in Engine.live())


def running(path):
    """How many threads work for a model."""
    return sum(thread.name == f"aideon-{path.stem}" for thread in threading.enumerate())


def test_an_idle_model_is_unloaded_and_comes_back(folder):
    """After idle_seconds the model is gone; the next request gets the same answer again."""
    client = client_of(folder / "bytes.gguf", idle_seconds=0.05)
    ask = {"messages": "Go", "temperature": 1, "seed": 3, "max_tokens": 30}
    first = seen(client.chat(**ask))
    for _ in range(5):
        time.sleep(random.Random(1).choice([0.04, 0.05, 0.06, 0.1]))
        assert seen(client.chat(**ask)) == first


def test_two_models_take_turns_in_the_memory_of_one(folder):
    """With room for one, two models in many threads are loaded in turn, and all are answered."""
    size = (folder / "bytes.gguf").stat().st_size
    config = Config(local_memory_gb=1.5 * size / 1e9)
    clients = [client_of(folder / f"{name}.gguf", config=config) for name in ("bytes", "other")]
    ask = {"messages": "Go", "temperature": 0, "max_tokens": 10}
    expected = [seen(client.chat(**ask)) for client in clients]
    assert expected[0] != expected[1]
    with ThreadPoolExecutor(4) as pool:
        pending = [pool.submit(lambda n=n: seen(clients[n % 2].chat(**ask))) for n in range(12)]
        assert [each.result(timeout=20) for each in pending] == expected * 6


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_process_is_refused_and_not_hung(folder):
    """A forked process is told that a client is not its own; one that it makes answers."""
    client = client_of(folder / "bytes.gguf")
    answer = client.chat("Go", temperature=0, max_tokens=5).text
    context = multiprocessing.get_context("fork")
    told = context.SimpleQueue()

    def child():
        try:
            client.chat("Go", max_tokens=1)
        except LoadFailed as error:
            told.put(error.message)
        told.put(client_of(folder / "bytes.gguf").chat("Go", temperature=0, max_tokens=5).text)
        os._exit(0)

    process = context.Process(target=child)
    process.start()
    process.join(10)
    assert process.exitcode == 0
    assert "forked" in told.get()
    assert told.get() == answer
    assert client.chat("Go", temperature=0, max_tokens=5).text == answer


@pytest.mark.parametrize("end", ["pass", "sys.exit(3)", "raise KeyboardInterrupt", "del stream"])
def test_a_process_ends_amid_an_answer(folder, end):
    """However the interpreter ends while a model writes, it does so at once and does not crash."""
    code = f"""
    import sys
    from aideon_core import Client, LlamaCppBackend
    backend = LlamaCppBackend({str(folder / "bytes.gguf")!r}, n_ctx=2048, n_threads=1)
    stream = Client(local=backend, cloud=None).stream("Go", temperature=2, logit_bias={{"1": 30}})
    next(stream)
    print("began", flush=True)
    {end}
    """
    ran = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert ran.stdout == "began\n"
    wanted = {"sys.exit(3)": (3,), "raise KeyboardInterrupt": (130, -2)}.get(end, (0,))
    assert ran.returncode in wanted, ran.stderr


def test_a_file_that_cannot_be_loaded_is_tried_once(folder):
    """A damaged file is told to whoever asks; nothing goes on in the background."""
    path = folder / "damaged.gguf"
    path.write_bytes((folder / "bytes.gguf").read_bytes()[:200_000])
    client = client_of(path)
    for _ in range(2):
        with pytest.raises(LoadFailed, match="cannot load"):
            client.chat("Hi")
    before = time.process_time()
    time.sleep(0.3)
    assert time.process_time() - before < 0.2
    client.close()
    del client
    deadline = time.monotonic() + 5
    while running(path) and time.monotonic() < deadline:
        gc.collect()
        time.sleep(0.01)
    assert not running(path)


def test_nobody_is_sent_away_while_a_sequence_is_free(folder):
    """max_queue counts those who wait, not those who are answered."""
    client = client_of(folder / "bytes.gguf", parallel=2, max_queue=0)
    endless = {"messages": "Go", "temperature": 2, "logit_bias": {15: 100}}
    with client.stream(**endless) as one:
        next(one)
        assert client.chat("Hi", max_tokens=1, deadline=10)
        with client.stream(**endless) as other:
            next(other)
            with pytest.raises(QueueFull, match="1 requests wait"):
                client.chat("Hi", max_tokens=1)


def test_a_file_that_went_away_is_told(folder):
    """A model whose file is gone by the first request cannot be loaded, and says so."""
    path = write_chat_model(folder / "gone.gguf")
    client = client_of(path)
    path.unlink()
    with pytest.raises(LoadFailed, match="cannot be read"):
        client.chat("Hi")
