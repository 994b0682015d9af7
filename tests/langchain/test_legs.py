"""Chat models as backends, and what their libraries raise as errors of ours."""

from __future__ import annotations

import json
import threading
import time
from decimal import Decimal
from types import SimpleNamespace

import pytest
from langchain_core import exceptions
from langchain_core.language_models import FakeListChatModel, FakeMessagesListChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage, ToolMessage
from langchain_core.runnables import ConfigurableField, Runnable, RunnableLambda
from langchain_openai import ChatOpenAI
from langchain_together import ChatTogether

from aideon_core import AsyncClient, Client, ToolCall
from aideon_core.backends.base import Backend
from aideon_core.errors import (
    AllBackendsFailed,
    AuthError,
    BackendError,
    BadRequest,
    ConfigError,
    ConnectFailed,
    ContextTooLong,
    InvalidOutput,
    MissingKey,
    NotFound,
    RateLimited,
    ServerError,
    TimedOut,
)
from aideon_core.types import Message, ModelFacts, Request
from langchain_aideon.router import failures
from langchain_aideon.router.legs import ChatModelLeg

ASKED = Request((Message("user", "Hi."),))


class Noted(FakeMessagesListChatModel):
    """Notes the messages it is asked."""

    seen: list = []  # noqa: RUF012 - pydantic copies it

    def _generate(self, messages, stop=None, run_manager=None, **kwargs):
        self.seen.append(messages)
        return super()._generate(messages, stop, run_manager, **kwargs)


def together(**fields) -> ChatTogether:
    """A ChatTogether that is asked nothing."""
    return ChatTogether(model="openai/gpt-oss-20b", api_key="k", **fields)


def test_a_leg_is_a_backend_of_any_client():
    """A chat model answers an Aideon client, whole and in pieces, with its cost and its side."""
    leg = ChatModelLeg(FakeListChatModel(responses=["Hello."]), side="local", name="fake")
    assert isinstance(leg, Backend)
    with Client(local=leg, cloud=None, embedding=None) as client:
        answer = client.chat("Hi.")
        assert (answer.text, answer.cost, answer.finish_reason) == ("Hello.", Decimal(0), "stop")
        assert answer.route.backend == "fake"
        assert "".join(chunk.text for chunk in client.stream("Hi.")) == "Hello."


async def test_a_leg_answers_awaiting_clients():
    """An awaiting client gets the same from a leg."""
    leg = ChatModelLeg(FakeListChatModel(responses=["Hello."]), side="local")
    client = AsyncClient(local=leg, cloud=None, embedding=None)
    assert (await client.chat("Hi.")).text == "Hello."
    async with client.stream("Hi.") as stream:
        assert "".join([chunk.text async for chunk in stream]) == "Hello."


def test_names_and_abilities_are_the_models_own():
    """A leg has its model's provider, name and abilities, whatever is wrapped around it."""
    model = together()
    wrapped = [
        model,
        model.bind(stop=["x"]),
        model.with_config(tags=["t"]).with_retry(),
        model.with_fallbacks([together()]),
        model.configurable_fields(temperature=ConfigurableField(id="t")),
    ]
    for each in wrapped:
        leg = ChatModelLeg(each, side="cloud")
        assert (leg.name, leg.model) == ("together", "openai/gpt-oss-20b")
        assert leg.abilities == {"tools", "json", "media", "logprobs", "logit_bias"}
    assert ChatModelLeg(model.bind(model="other"), side="cloud").model == "other"
    plain = ChatModelLeg(FakeListChatModel(responses=["x"]), side="local")
    assert plain.abilities == frozenset()


def test_a_profile_comes_before_a_guess():
    """What a model's profile tells of it holds, and what the caller declares is added."""
    profile = {
        "max_input_tokens": 8000,
        "max_output_tokens": 100,
        "tool_calling": False,
        "structured_output": False,
        "image_inputs": False,
        "reasoning_output": True,
    }
    leg = ChatModelLeg(together(profile=profile), side="cloud", abilities={"top_k"})
    assert leg.abilities == {"logprobs", "logit_bias", "top_k"}
    assert leg.facts == ModelFacts(8000, 100, media=False, reasoning=True)
    assert ChatModelLeg(together(), side="cloud", facts=ModelFacts(9)).facts == ModelFacts(9)


@pytest.mark.parametrize(
    ("address", "prices"),
    [
        (None, "openai"),
        ("https://api.openai.com/v1", "openai"),
        ("https://api.together.ai/v1", "together"),
        ("http://127.0.0.1:9/v1", None),
    ],
)
def test_prices_go_by_the_address(address, prices):
    """One class speaks to many servers, so the address tells whose prices hold."""
    from langchain_aideon.router import capabilities

    model = ChatOpenAI(model="m", api_key="k", base_url=address)
    assert capabilities.price_list(model) == prices


def test_turns_of_the_core_become_messages():
    """A turn that no LangChain message stands for is made one, tool calls and results included."""
    model = Noted(responses=[AIMessage("Ok.")], seen=[])
    turns = (
        Message("system", "Be kind."),
        Message("user", ({"type": "text", "text": "Hi."},), name="ann"),
        Message("assistant", "", tool_calls=(ToolCall("c1", "add", '{"a": 1}'),)),
        Message("tool", "2", tool_call_id="c1"),
    )
    ChatModelLeg(model, side="local").complete(Request(turns))
    system, user, assistant, result = model.seen[0]
    assert system.content == "Be kind."
    assert (user.content, user.name) == ([{"type": "text", "text": "Hi."}], "ann")
    assert assistant.tool_calls == [
        {"name": "add", "args": {"a": 1}, "id": "c1", "type": "tool_call"}
    ]
    assert isinstance(result, ToolMessage)
    assert (result.content, result.tool_call_id) == ("2", "c1")


def test_who_reads_no_files_is_sent_their_text():
    """A file goes as it is to a model that reads media, and as its text to one that does not."""
    from langchain_aideon.messages import to_messages

    data = "SGVsbG8gZmlsZS4="
    block = {"type": "file", "base64": data, "mime_type": "text/plain", "filename": "a.txt"}
    message = HumanMessage([{"type": "text", "text": "Read."}, block])
    request = Request(tuple(to_messages([message])))
    blind, seeing = (Noted(responses=[AIMessage("Ok.")], seen=[]) for _ in range(2))
    ChatModelLeg(blind, side="local").complete(request)
    ChatModelLeg(seeing, side="local", abilities={"media"}).complete(request)
    assert seeing.seen[0][0].content == message.content
    assert "Hello file." in json.dumps(blind.seen[0][0].content)
    assert data not in json.dumps(blind.seen[0][0].content)


def test_a_stream_that_just_ends_is_cut_off():
    """An OpenAI client's stream without a finish reason is an error, not a short answer."""
    leg = ChatModelLeg(together(), side="cloud")
    reader_of_nothing = SimpleNamespace(has_ended=False)
    with pytest.raises(ConnectFailed, match="before the answer was whole"):
        leg._ended(reader_of_nothing)


class Listing(Runnable):
    """Streams as few do: with an iterator that has nothing to close."""

    def invoke(self, given, config=None, **kwargs):
        return AIMessage("Both.")

    def stream(self, given, config=None, **kwargs):
        return iter([AIMessageChunk("Bo"), AIMessageChunk("th.")])

    def astream(self, given, config=None, **kwargs):
        return Pieces(self.stream(given))


class Pieces:
    def __init__(self, pieces):
        self._pieces = pieces

    def __aiter__(self):
        return self

    async def __anext__(self):
        for piece in self._pieces:
            return piece
        raise StopAsyncIteration


async def test_iterators_that_cannot_be_closed_serve():
    """A Runnable may stream with an iterator that has no close, blocking or awaited."""
    client = Client(local=ChatModelLeg(Listing(), side="local"))
    with client.stream("Go.") as stream:
        assert [chunk.text for chunk in stream][:2] == ["Bo", "th."]
    async with AsyncClient.sharing(client).stream("Go.") as stream:
        assert [chunk.text async for chunk in stream][:2] == ["Bo", "th."]


def test_no_leg_goes_on_from_a_beginning():
    """A leg said to go on from a beginning is refused, because it would say it twice."""
    with pytest.raises(ConfigError, match="begin anew"):
        ChatModelLeg(FakeListChatModel(responses=["Yes."]), side="local", abilities=["prefix"])


def test_closing_from_another_thread_ends_the_stream_at_its_next_piece():
    """A stream that waits can be closed from elsewhere, and gives no piece after that."""
    ask, go = threading.Event(), threading.Event()

    def slow(_):
        yield AIMessage("a")
        ask.set()
        go.wait(5)
        yield AIMessage("b")

    leg = ChatModelLeg(RunnableLambda(slow), side="local")
    client = Client(local=leg, cloud=None, embedding=None)
    stream, got = client.stream("Hi."), []
    thread = threading.Thread(target=lambda: got.extend(stream))
    thread.start()
    ask.wait(5)
    time.sleep(0.02)
    stream.close()
    go.set()
    thread.join(5)
    assert not thread.is_alive()
    assert "".join(chunk.text for chunk in got) == "a"


def made(name, *bases, **attributes) -> type[Exception]:
    """An exception class such as a library has."""
    return type(name, bases or (Exception,), attributes)


class Refused(Exception):
    """What an SDK raises for a refusal, with status, body and headers."""

    def __init__(self, status, body=None, headers=None, message="no"):
        super().__init__(message)
        self.status_code, self.body = status, body
        self.response = SimpleNamespace(status_code=status, headers=headers or {})


CASES = [
    (exceptions.ModelAuthenticationError("x"), AuthError),
    (exceptions.ModelPermissionDeniedError("x"), AuthError),
    (exceptions.ModelInvalidRequestError("x"), BadRequest),
    (exceptions.ModelNotFoundError("x"), NotFound),
    (exceptions.ModelRateLimitError("x"), RateLimited),
    (exceptions.ModelAPIError("x"), ServerError),
    (exceptions.ModelConnectionError("x"), ConnectFailed),
    (exceptions.ModelTimeoutError("x"), TimedOut),
    (exceptions.ContextOverflowError("x"), ContextTooLong),
    (exceptions.OutputParserException("x"), InvalidOutput),
    (Refused(401), AuthError),
    (Refused(404), NotFound),
    (Refused(408), TimedOut),
    (Refused(422), BadRequest),
    (Refused(429), RateLimited),
    (Refused(529), ServerError),
    (Refused(400, {"code": "model_not_available", "message": "x"}), NotFound),
    (Refused(400, message="maximum context length is 8192 tokens"), ContextTooLong),
    (made("Busy", code=503)(), ServerError),
    (made("ReadTimeout", made("TimeoutException"))("x"), TimedOut),
    (made("RemoteProtocolError", made("ProtocolError", made("TransportError")))(), ConnectFailed),
    (made("APITimeoutError", made("APIConnectionError"))(), TimedOut),
    (made("APIError")("overloaded"), ServerError),
    (TimeoutError(), TimedOut),
    (ConnectionResetError("x"), ConnectFailed),
    (json.JSONDecodeError("x", "y", 0), ServerError),
    (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"), ServerError),
    (ValueError({"message": "Overloaded", "type": "server_error"}), ServerError),
    (ValueError("Requested tokens (600) exceed context window of 512"), ContextTooLong),
    (TypeError("Received response with null value for `choices`."), ServerError),
    (RuntimeError("llama_decode returned -3"), BackendError),
    (MemoryError(), BackendError),
    (made("ThrottlingException")("x"), BackendError),
]


@pytest.mark.parametrize(("error", "kind"), CASES, ids=lambda value: str(value)[:40])
def test_what_libraries_raise_is_read(error, kind):
    """An exception of any library becomes the error it stands for, with itself as the cause."""
    with pytest.raises(kind) as caught, failures.classified("leg", "m"):
        raise error
    assert type(caught.value) is kind
    assert caught.value.__cause__ is error
    assert (caught.value.backend, caught.value.model) == ("leg", "m")
    assert caught.value.falls_back is (kind is not BadRequest)


@pytest.mark.parametrize(
    "error",
    [
        TypeError("x"),
        ValueError("x"),
        KeyError("x"),
        AttributeError("x"),
        FileNotFoundError("x"),
        ImportError("x"),
        NotImplementedError("x"),
        AssertionError("x"),
        StopIteration(),
        made("GraphInterrupt", made("GraphBubbleUp"))(),
        KeyboardInterrupt(),
        GeneratorExit(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_mistakes_and_control_flow_pass(error):
    """What is a mistake in a program, or steers one, is raised untouched."""
    with pytest.raises(type(error)) as caught, failures.classified("leg", "m"):
        raise error
    assert caught.value is error


def test_errors_of_ours_pass_and_are_told_who_was_asked():
    """An error of ours keeps its type, and one of a client within moves on to the next leg."""
    with pytest.raises(ConfigError) as caught, failures.classified("leg", "m"):
        raise ConfigError("x")
    assert caught.value.backend == "leg"
    for inner in (AllBackendsFailed("x", [ServerError("y")]), MissingKey("x")):
        with pytest.raises(BackendError) as caught, failures.classified("leg", "m"):
            raise inner
        assert caught.value.falls_back
        assert caught.value.__cause__ is inner


def test_a_servers_word_on_waiting_is_kept():
    """The wait a server asks for, its code and its request id are on the error."""
    headers = {"Retry-After": "3", "x-request-id": "r1"}
    body = {"message": "Slow down.", "type": "rate_limit", "code": "tpm"}
    found = failures.read(Refused(429, body, headers), "leg", "m")
    assert (found.retry_after, found.request_id) == (3, "r1")
    assert (found.code, found.type) == ("tpm", "rate_limit")
    assert "Slow down." in found.message


def test_more_exceptions_can_be_made_to_move_on():
    """A caller may name exceptions that stand for a failure, even a ValueError."""
    with pytest.raises(BackendError), failures.classified("leg", "m", (ValueError,)):
        raise ValueError("x")
