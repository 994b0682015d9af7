"""The hunt for a key: nothing that prints, logs, copies or fails may show it."""

from __future__ import annotations

import copy
import dataclasses
import io
import json
import logging
import pickle
import pprint
import socket
import traceback
from collections.abc import Mapping

import pytest
from rich.console import Console
from rich.pretty import pretty_repr
from rich.traceback import Traceback

from aideon_core import AsyncClient, Client
from aideon_core.config import Config, Secret
from aideon_core.errors import AideonError, ConfigError, MissingKey
from aideon_core.keys import Key, KeyRing
from aideon_testing import Failure, Reply

CANARY = "canary-key-8d1f-" + "x" * 40
MODEL = "openai/gpt-oss-20b"


def canary():
    """Never a local variable of a test, where the traceback of an error would show it."""
    return CANARY


def leaks(*texts):
    """The lines that show the key."""
    return [
        line.strip()[:300] for text in texts for line in str(text).split("\n") if CANARY in line
    ]


def error_of(call):
    """The error that a call ends in; its traceback begins here, below the test's own frame."""
    try:
        call()
    except AideonError as error:
        return error
    raise AssertionError("It did not fail.")


async def aerror_of(coroutine):
    """The error that an awaited call ends in."""
    try:
        await coroutine
    except AideonError as error:
        return error
    raise AssertionError("It did not fail.")


def everything_printed(error):
    """The error as a talkative tool prints it: its chain, its facts and every local variable."""
    shown = traceback.TracebackException.from_exception(error, capture_locals=True)
    facts = [vars(each) for each in chain(error)]
    return f"{''.join(shown.format())}{facts!r}{error!r}"


def printed_by_rich(error):
    """The error as rich prints it in a terminal, with local variables."""
    page = io.StringIO()
    shown = Traceback.from_exception(
        type(error), error, error.__traceback__, show_locals=True, locals_max_string=None
    )
    Console(file=page, width=300).print(shown)
    return page.getvalue()


def chain(error):
    """The error and all it was raised from, also where that is not shown."""
    seen: list[BaseException] = []
    waiting: list[BaseException | None] = [error]
    while waiting:
        each = waiting.pop()
        if each is not None and each not in seen:
            seen.append(each)
            waiting += [each.__cause__, each.__context__, *getattr(each, "exceptions", ())]
    return seen


def graph(root):
    """Every object that is reached from one by its attributes, its slots and its items."""
    seen: dict[int, object] = {}
    waiting = [root]
    while waiting:
        thing = waiting.pop()
        if id(thing) in seen or isinstance(thing, type):
            continue
        seen[id(thing)] = thing
        waiting += getattr(thing, "__dict__", {}).values()
        slots = [slot for kind in type(thing).__mro__ for slot in getattr(kind, "__slots__", ())]
        waiting += [getattr(thing, slot) for slot in slots if hasattr(thing, slot)]
        if isinstance(thing, Mapping):
            waiting += [*thing, *thing.values()]
        elif isinstance(thing, list | tuple | set | frozenset):
            waiting += thing
    return seen.values()


def texts_in(root):
    """Every text and every bytes in the graph of an object."""
    return [thing for thing in graph(root) if isinstance(thing, str | bytes | bytearray)]


@dataclasses.dataclass
class Holder:
    """A value of somebody's that holds a key."""

    secret: object


@pytest.fixture(params=["Secret", "Key"])
def secret(request):
    """Both kinds of hidden text."""
    return Secret(canary()) if request.param == "Secret" else Key(canary(), "test")


def test_a_secret_shows_itself_to_no_printer(secret):
    """repr, str, format, pprint, rich and JSON of a key or of what holds it give nothing away."""
    holder = Holder(secret)
    printed = [
        repr(secret),
        str(secret),
        f"{secret}",
        f"{secret!r:>80}",
        "%s %r" % (secret, secret),  # noqa: UP031 - one of the ways to print
        pprint.pformat([holder, {secret: secret}]),
        pretty_repr(holder, max_depth=9),
        json.dumps(dataclasses.asdict(holder), default=str),
        repr(dataclasses.astuple(holder)),
        repr(ConfigError(secret)),
    ]
    assert leaks(*printed) == []
    assert all("***" in text for text in printed)


def test_a_secret_keeps_its_text_in_no_attribute(secret):
    """A tool that walks attributes and slots finds no text."""
    assert not hasattr(secret, "__dict__")
    assert leaks(*texts_in(secret)) == []


def test_a_secret_is_copied_and_not_pickled(secret):
    """Copies are the same secret; pickles, in every protocol, are refused."""
    assert copy.copy(secret) is secret
    assert copy.deepcopy({"key": [secret]})["key"][0] is secret
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        with pytest.raises(TypeError, match="not pickled"):
            pickle.dumps(Holder(secret), protocol)


def test_a_ring_is_shared_by_copies_and_not_pickled():
    """A ring shows no key, a copied agent keeps using it, and it is never written out."""
    ring = KeyRing.of([canary(), canary])
    ring.lease()
    ring.paused(ring.lease(), 5.0)
    assert copy.deepcopy(ring) is ring
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(ring)
    assert leaks(repr(ring), pretty_repr(ring), vars(ring), *texts_in(ring)) == []


@pytest.fixture(params=["argument", "several", "file", "environment", "config"])
def key_words(request, tmp_path, monkeypatch):
    """The ways to give a client its key, as arguments."""
    if request.param == "environment":
        monkeypatch.setenv("TOGETHER_API_KEY", canary())
        return {}
    if request.param == "config":
        return {"config": Config(together_api_key=Secret(canary()), home=tmp_path)}
    (tmp_path / "key").write_text(canary())
    ways = {"argument": canary(), "several": [canary()], "file": f"file:{tmp_path / 'key'}"}
    return {"api_key": ways[request.param]}


def client(kind, together, key_words, **words):
    url = {"base_url": together.base_url} | words
    return kind(local=None, cloud=MODEL, max_retries=0, **url, **key_words)


def test_a_client_shows_its_key_nowhere(together, key_words, caplog):
    """Before and after calls: repr, route, answer, log and every attribute are clean."""
    caplog.set_level(logging.DEBUG)
    with client(Client, together, key_words) as asking:
        answer = asking.chat("Hello?")
        list(asking.stream("Hello?"))
        printed = [repr(thing) for thing in graph(asking)] + texts_in(asking)
    assert together.requests[0].headers["authorization"] == f"Bearer {CANARY}"
    assert leaks(answer, answer.route, answer.route.explain(), caplog.text, *printed) == []
    assert any(record.name.startswith("http") for record in caplog.records)
    assert copy.deepcopy(asking) is asking


async def test_an_async_client_shows_its_key_nowhere(together, key_words, caplog):
    """The same for a client that is awaited."""
    caplog.set_level(logging.DEBUG)
    async with client(AsyncClient, together, key_words) as asking:
        answer = await asking.chat("Hello?")
        [chunk async for chunk in asking.stream("Hello?")]
        printed = [repr(thing) for thing in graph(asking)] + texts_in(asking)
    assert together.requests[0].headers["authorization"] == f"Bearer {CANARY}"
    assert leaks(answer, answer.route, answer.route.explain(), caplog.text, *printed) == []


FAILURES = {
    "401": Failure.invalid_key(),
    "402": Failure.error(402, "Credit limit exceeded"),
    "403": Failure.error(403, "Not for you"),
    "404": Failure.unknown_model(MODEL),
    "408": Failure.error(408, "Too slow"),
    "429": Failure.rate_limited(),
    "500": Failure.server_error(),
    "521": Failure.edge(521),
    "redirect": Failure(302, "elsewhere", {"location": "http://127.0.0.1:9/"}),
    "no JSON": Failure(200, "<html>"),
    "cut off": Reply("one two three four", cut_after=0),
    "too late": Reply("late", delay=2.0),
}


def failing(together, name):
    """Make the next call fail in that way; what the client needs besides."""
    answer = FAILURES[name]
    if isinstance(answer, Failure):
        together.script.fail(answer)
    else:
        together.script.reply(answer)
    return {"timeout": 0.2} if name == "too late" else {}


@pytest.mark.parametrize("streaming", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("name", FAILURES)
def test_no_failure_shows_the_key(together, caplog, name, streaming):
    """Whatever the server answers: text, chain, route, log and local variables are clean."""
    caplog.set_level(logging.DEBUG)
    words = failing(together, name)
    with client(Client, together, {"api_key": canary()}, **words) as asking:
        error = error_of(
            lambda: asking.chat("Hello?") if not streaming else list(asking.stream("Hello?"))
        )
    assert (
        leaks(everything_printed(error), error.route and error.route.explain(), caplog.text) == []
    )


@pytest.mark.parametrize("streaming", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("name", FAILURES)
async def test_no_awaited_failure_shows_the_key(together, caplog, name, streaming):
    """The same for calls that are awaited."""
    caplog.set_level(logging.DEBUG)
    words = failing(together, name)
    async with client(AsyncClient, together, {"api_key": canary()}, **words) as asking:
        error = await aerror_of(consumed(asking) if streaming else asking.chat("Hello?"))
    assert (
        leaks(everything_printed(error), error.route and error.route.explain(), caplog.text) == []
    )


async def consumed(asking):
    """A stream, read to its end."""
    return [chunk async for chunk in asking.stream("Hello?")]


@pytest.fixture
def nowhere():
    """An address on this machine where nobody listens."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{unused.getsockname()[1]}"


def test_no_failure_shows_the_key_in_a_terminal(together):
    """Rich, which prints what is inside of local variables, finds no key either."""
    together.script.fail(Failure.invalid_key())
    with client(Client, together, {"api_key": canary()}) as asking:
        error = error_of(lambda: asking.chat("Hello?"))
    assert leaks(printed_by_rich(error)) == []


async def test_a_host_that_is_not_there_shows_no_key(nowhere, key_words):
    """A refused connection is told without the request."""
    words = {"local": None, "cloud": MODEL, "max_retries": 0, "base_url": nowhere, **key_words}
    with Client(**words) as asking:
        error = error_of(lambda: asking.chat("Hello?"))
    async with AsyncClient(**words) as awaiting:
        awaited = await aerror_of(awaiting.chat("Hello?"))
    assert leaks(everything_printed(error), everything_printed(awaited)) == []


@pytest.mark.parametrize("stray", ["\n", "\r\nX-Other: 1", "\x00", "é", "\x1b[31m"])
def test_a_key_that_cannot_be_sent_is_not_repeated(together, stray, monkeypatch, tmp_path):
    """Wherever a key with a stray character comes from, the error does not repeat it."""
    stray_key = f"{canary()}{stray}rest"
    (tmp_path / "key").write_text(f"{stray_key}\x01", encoding="utf-8")
    monkeypatch.setattr("os.environ", {**__import__("os").environ, "STRAY_KEY": stray_key})
    for given in (stray_key, [stray_key], f"file:{tmp_path / 'key'}", "env:STRAY_KEY"):
        error = error_of(lambda given=given: client(Client, together, {"api_key": given}).chat("x"))
        assert isinstance(error, ConfigError)
        assert leaks(*(f"{each} {each!r} {vars(each)}" for each in chain(error))) == []
    assert together.requests == []


def test_a_missing_key_shows_no_other(together, monkeypatch):
    """Where one source is broken, the error repeats nothing that another variable holds."""
    monkeypatch.setenv("TOGETHER_API_KEY_FILE", "/no/such/file")
    monkeypatch.setenv("TOGETHER_API_KEY", canary())
    error = error_of(lambda: client(Client, together, {}).chat("Hello?"))
    assert isinstance(error, MissingKey)
    assert "/no/such/file" in str(error)
    assert leaks(everything_printed(error)) == []


def test_the_hunt_finds_what_there_is_to_find():
    """The tools of these tests do see a key that is not hidden."""

    def careless():
        header = {"Authorization": f"Bearer {canary()}"}
        raise AideonError(str(len(header)))

    assert leaks(everything_printed(error_of(careless)))
    assert leaks(printed_by_rich(error_of(careless)))
    assert leaks(*texts_in(Holder([{"a": canary()}]))) == [CANARY]
