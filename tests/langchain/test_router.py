"""AideonRouter over chat models of every kind, fakes and real ones over the loopback server."""

from __future__ import annotations

import asyncio
import time
from decimal import Decimal
from typing import Any

import httpx
import openai
import pytest
from langchain.agents import create_agent
from langchain_core.caches import InMemoryCache
from langchain_core.callbacks import (
    BaseCallbackHandler,
    UsageMetadataCallbackHandler,
    get_usage_metadata_callback,
)
from langchain_core.exceptions import ModelRateLimitError
from langchain_core.language_models import BaseChatModel, FakeListChatModel, GenericFakeChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage, SystemMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableLambda
from langchain_core.tools import tool
from langchain_core.tracers.context import collect_runs
from langchain_openai import ChatOpenAI
from langchain_tests.unit_tests import ChatModelUnitTests
from langchain_together import ChatTogether
from pydantic import BaseModel, Field

from aideon_core import Client, Completion
from aideon_core.errors import (
    AllBackendsFailed,
    BadRequest,
    ConfigError,
    RateLimited,
    StreamInterrupted,
    TimedOut,
    UnknownModel,
    Unsupported,
)
from aideon_testing import Failure, FakeBackend, Reply
from langchain_aideon import ChatAideon
from langchain_aideon.router import AideonRouter
from langchain_aideon.router.legs import ChatModelLeg

MODEL = "openai/gpt-oss-20b"
USAGE = {"input_tokens": 3, "output_tokens": 2, "total_tokens": 5}


class Told(BaseChatModel):
    """Gives what it is told to, in pieces or whole, and notes what it was asked."""

    answers: list[Any]
    asked: list[tuple[list[Any], dict[str, Any]]] = Field(default_factory=list)
    named: str = "told"
    wait: float = 0.0
    closed: list[bool] = Field(default_factory=list)

    def _next(self, messages, kwargs):
        self.asked.append((messages, kwargs))
        answer = self.answers[min(len(self.asked), len(self.answers)) - 1]
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _generate(self, messages, stop=None, run_manager=None, **kwargs):
        time.sleep(self.wait)
        answer = self._next(messages, kwargs | ({"stop": stop} if stop else {}))
        if isinstance(answer, list):
            whole = answer[0]
            for piece in answer[1:]:
                whole += piece
            answer = AIMessage(**whole.model_dump(exclude={"type", "tool_call_chunks"}))
        return ChatResult(generations=[ChatGeneration(message=answer)])

    def _stream(self, messages, stop=None, run_manager=None, **kwargs):
        answer = self._next(messages, kwargs | ({"stop": stop} if stop else {}))
        try:
            for piece in answer if isinstance(answer, list) else [answer]:
                if isinstance(piece, Exception):
                    raise piece
                time.sleep(self.wait)
                yield ChatGenerationChunk(
                    message=AIMessageChunk(**piece.model_dump(exclude={"type"}))
                )
        finally:
            self.closed.append(True)

    def bind_tools(self, tools, *, tool_choice=None, **kwargs):
        return self.bind(tools=tools, tool_choice=tool_choice, **kwargs)

    @property
    def _llm_type(self):
        return "told"

    def _get_ls_params(self, stop=None, **kwargs):
        return {**super()._get_ls_params(stop, **kwargs), "ls_model_name": self.named}


class Heard(BaseCallbackHandler):
    """Notes what callbacks are told."""

    def __init__(self):
        self.told = []

    def on_chat_model_start(self, serialized, messages, **kwargs):
        self.told.append("start")

    def on_llm_new_token(self, token, **kwargs):
        self.told.append(("token", token))

    def on_llm_end(self, response, **kwargs):
        self.told.append("end")

    def on_llm_error(self, error, **kwargs):
        self.told.append("error")


@tool
def weather(city: str) -> str:
    """Tell the weather in a city."""
    return f"Rain in {city}."


@pytest.fixture
async def together_model(together_env):
    """Build a ChatTogether on the loopback server; its connections are closed after."""
    with httpx.Client(verify=False) as client:
        async with httpx.AsyncClient(verify=False) as async_client:
            given = {"http_client": client, "http_async_client": async_client, "max_retries": 0}

            def build(model=MODEL, **fields):
                return ChatTogether(model=model, **(given | fields))

            yield build


@pytest.fixture
async def openai_model(together):
    """Build a ChatOpenAI on the loopback server; its connections are closed after."""
    with httpx.Client(verify=False) as client:
        async with httpx.AsyncClient(verify=False) as async_client:

            def build(model=MODEL, **fields):
                address = {"base_url": f"{together.base_url}/v1", "api_key": together.api_key}
                clients = {"http_client": client, "http_async_client": async_client}
                return ChatOpenAI(model=model, max_retries=0, **(address | clients | fields))

            yield build


def told(*answers, **fields) -> Told:
    """A fake that gives these answers in turn."""
    return Told(answers=list(answers), **fields)


def said(text: str, **fields) -> AIMessage:
    """An answer with usage."""
    return AIMessage(text, usage_metadata=USAGE, **fields)


def joined(pieces) -> AIMessageChunk:
    """The pieces of a stream as one."""
    whole = None
    for piece in pieces:
        whole = piece if whole is None else whole + piece
    return whole


class TestRouterStandard(ChatModelUnitTests):
    """A router over fakes is the chat model LangChain expects."""

    @property
    def chat_model_class(self):
        return AideonRouter

    @property
    def chat_model_params(self):
        return {"local": told(said("Here.")), "cloud": told(said("There."), named="there")}

    @property
    def standard_chat_model_params(self):
        # The models have keys of their own.
        return {"temperature": 0, "max_tokens": 100, "timeout": 60, "stop": [], "max_retries": 2}

    @property
    def model_override_value(self):
        return "there"


def test_the_policy_says_who_answers():
    """The side a policy prefers answers, and the route explains the choice."""
    router = AideonRouter(local=told(said("Here.")), cloud=told(said("There.")))
    here = router.invoke("Where?")
    there = router.invoke("Where?", policy="cloud-first")
    assert (here.content, there.content) == ("Here.", "There.")
    assert here.response_metadata["route"]["side"] == "local"
    assert here.response_metadata["cost"] == "0"
    assert "told: eligible" not in here.response_metadata["route"]["explain"]
    assert "told:told (told): eligible" in here.response_metadata["route"]["explain"]


def test_a_call_may_name_one_of_the_models():
    """``model=`` asks the model of that name alone, and refuses a name that is none of them."""
    router = AideonRouter(cloud=[told(said("A."), named="a-1"), told(said("B."), named="b-1")])
    assert router.invoke("Who?", model="b-1").content == "B."
    assert router.invoke("Who?", model="a-1").content == "A."
    with pytest.raises(UnknownModel, match="Did you mean 'b-1'"):
        router.invoke("Who?", model="b-2")


def test_an_answer_comes_back_as_it_was():
    """Content blocks, ids, tool calls and everything else of an answer are the model's own."""
    answer = AIMessage(
        [
            {"type": "thinking", "thinking": "Hm.", "signature": "s"},
            {"type": "text", "text": "Yes."},
        ],
        id="msg_1",
        additional_kwargs={"refusal": None, "parsed": {"a": 1}},
        response_metadata={
            "model_name": "told-2",
            "system_fingerprint": "f",
            "stop_reason": "end_turn",
        },
        tool_calls=[{"name": "weather", "args": {"city": "Oslo"}, "id": "c1", "type": "tool_call"}],
        usage_metadata={**USAGE, "input_token_details": {"cache_creation": 1, "cache_read": 2}},
    )
    given = AideonRouter(cloud=told(answer), policy="cloud-only").invoke("Well?")
    for field in ("content", "id", "additional_kwargs", "tool_calls", "usage_metadata"):
        assert getattr(given, field) == getattr(answer, field)
    assert given.response_metadata.items() >= answer.response_metadata.items()
    assert given.response_metadata["finish_reason"] == "tool_calls"
    assert "route" not in answer.response_metadata


def test_messages_arrive_as_they_are():
    """A model sees the very messages of the caller, blocks of its provider included."""
    model = told(said("Ok."))
    messages = [
        SystemMessage([{"type": "text", "text": "Hi.", "cache_control": {"type": "ephemeral"}}]),
        HumanMessage([{"type": "text", "text": "Read."}, {"cachePoint": {"type": "default"}}]),
        AIMessage([{"type": "redacted_thinking", "data": "x"}, {"type": "text", "text": "Done."}]),
        HumanMessage([{"type": "file", "file_id": "file-1"}]),
    ]
    AideonRouter(cloud=model).invoke(messages)
    ((seen, _),) = model.asked
    assert [message.content for message in seen] == [message.content for message in messages]
    assert [type(message) for message in seen] == [type(message) for message in messages]


def test_pieces_arrive_as_they_are():
    """A stream's pieces are the model's own, also those without text, and usage comes once."""
    pieces = [
        AIMessageChunk("", id="msg_1", response_metadata={"model_provider": "openai"}),
        AIMessageChunk([{"type": "image", "base64": "aGk=", "index": 0}]),
        AIMessageChunk([{"type": "text", "text": "Look", "index": 1}]),
        AIMessageChunk([{"type": "text", "text": "!", "index": 1}], additional_kwargs={"x": "y"}),
        AIMessageChunk("", usage_metadata=USAGE, response_metadata={"finish_reason": "length"}),
    ]
    given = list(AideonRouter(cloud=told(pieces)).stream("Paint."))
    whole = joined(given)
    assert [each["type"] for each in whole.content] == ["image", "text"]
    assert whole.text == "Look!"
    assert whole.additional_kwargs == {"x": "y"}
    assert whole.id == "msg_1"
    assert whole.usage_metadata == USAGE
    assert [each.usage_metadata for each in given].count(None) == len(given) - 1
    assert whole.response_metadata["finish_reason"] == "length"
    assert whole.response_metadata["model_provider"] == "openai"
    assert whole.response_metadata["model_name"] == "told"
    assert whole.response_metadata["route"]["side"] == "cloud"
    assert given[-1].chunk_position == "last"


def test_the_ids_of_inner_runs_stay_inside():
    """An answer has the provider's id or the router's, never that of a run nobody saw."""
    with collect_runs() as collected:
        answer = AideonRouter(local=told(said("Hi."))).invoke("Hi.")
        whole = joined(AideonRouter(local=told(said("Hi."))).stream("Hi."))
    first, second = (run.id for run in collected.traced_runs)
    assert (answer.id, whole.id) == (f"lc_run--{first}-0", f"lc_run--{second}")


async def test_the_router_is_one_run():
    """Handlers hear of one run, its tokens once and its usage once, however it is called."""
    pieces = [AIMessageChunk("a", usage_metadata=USAGE), AIMessageChunk("b")]
    router = AideonRouter(local=told(pieces, named="m").bind(stop=["x"]))
    chain = ChatPromptTemplate.from_template("{x}") | router | StrOutputParser()
    heard, counted = Heard(), UsageMetadataCallbackHandler()
    config = {"callbacks": [heard, counted]}
    with get_usage_metadata_callback() as around, collect_runs() as collected:
        assert chain.invoke({"x": "1"}, config) == "ab"
        assert "".join(chain.stream({"x": "1"}, config)) == "ab"
        assert await chain.ainvoke({"x": "1"}, config) == "ab"
        assert "".join([piece async for piece in chain.astream({"x": "1"}, config)]) == "ab"
    assert heard.told.count("start") == heard.told.count("end") == 4
    assert "error" not in heard.told
    assert "".join(each[1] for each in heard.told if isinstance(each, tuple)) == "abab"
    assert counted.usage_metadata["m"]["total_tokens"] == 4 * USAGE["total_tokens"]
    assert around.usage_metadata["m"]["total_tokens"] == 4 * USAGE["total_tokens"]
    runs = [[child.name for child in run.child_runs] for run in collected.traced_runs]
    assert [names.count("AideonRouter") for names in runs] == [1] * 4
    assert not any("Told" in names for names in runs)


def test_tracing_sees_one_run(monkeypatch):
    """With LangSmith's tracing on, the model inside is no run of its own."""
    from langchain_core.tracers import langchain as tracing
    from langsmith import tracing_context

    seen = []

    class Tracer(BaseCallbackHandler):
        def __init__(self, **_):
            self.run_map = {}

        def on_chat_model_start(self, serialized, messages, **kwargs):
            seen.append(kwargs["name"] or serialized["name"])

        def copy_with_metadata_defaults(self, **_):
            return self

    monkeypatch.setattr(tracing, "LangChainTracer", Tracer)
    with tracing_context(enabled=True):
        AideonRouter(local=told(said("Hi."))).invoke("Hi.", {"run_name": "router"})
    assert seen == ["router"]


def test_what_a_model_was_made_with_still_works():
    """A model's own callbacks, cache and bound arguments are in force inside the router."""
    heard = Heard()
    model = told(said("One."), said("Two."), callbacks=[heard], cache=InMemoryCache())
    router = AideonRouter(local=model.bind(stop=["END"]).with_config(tags=["a"]), cache=False)
    assert [router.invoke("Hi.").content for _ in range(2)] == ["One.", "One."]
    assert heard.told == ["start", "end"] * 2
    assert model.asked[0][1] == {"stop": ["END"]}


@pytest.mark.parametrize(
    "failure",
    [
        Failure.rate_limited(),
        Failure.server_error(),
        Failure.unknown_model(MODEL),
        Failure.unauthorized(),
    ],
    ids=["429", "500", "404", "401"],
)
async def test_a_failing_cloud_model_gives_way(together_model, together, failure):
    """What an openai-style client raises moves on to the next model, awaited, streamed or not."""
    together.script.fail(failure, failure, failure)
    router = AideonRouter(
        cloud=together_model(), local=told(said("Here.")), policy="cloud-first", max_retries=0
    )
    answer = router.invoke("Hi.")
    assert answer.content == (await router.ainvoke("Hi.")).content == "Here."
    assert joined(router.stream("Hi.")).content == "Here."
    assert "together failed" in answer.response_metadata["route"]["reason"]


async def test_a_slow_cloud_model_gives_way(openai_model, together):
    """A model that does not answer within its own timeout is passed over."""
    together.script.reply(*[Reply("Late.", delay=2)] * 2)
    router = AideonRouter(
        cloud=openai_model(timeout=0.2), local=told(said("Here.")), policy="cloud-first"
    )
    assert router.invoke("Hi.").content == "Here."
    answer = await router.ainvoke("Hi.")
    assert "TimedOut" in answer.response_metadata["route"]["reason"]


async def test_a_real_models_usage_is_counted_once(together_model, together):
    """Whole, streamed and awaited answers of ChatTogether each count the tokens of one answer."""
    together.script.say(*["One two."] * 4)
    alone, counted = UsageMetadataCallbackHandler(), UsageMetadataCallbackHandler()
    model = together_model()
    model.invoke("Count.", {"callbacks": [alone]})
    router = AideonRouter(cloud=model, policy="cloud-only")
    config = {"callbacks": [counted]}
    router.invoke("Count.", config)
    list(router.stream("Count.", config))
    assert [piece async for piece in router.astream("Count.", config)]
    (once,) = alone.usage_metadata.values()
    (thrice,) = counted.usage_metadata.values()
    assert thrice["total_tokens"] == 3 * once["total_tokens"]


def test_a_refused_request_does_not_move_on(together_model, together):
    """A request that is wrong fails where it was sent, so that the mistake shows."""
    together.script.fail(Failure.bare(400, "temperature is odd"))
    local = told(said("Here."))
    router = AideonRouter(cloud=together_model(), local=local, policy="cloud-first")
    with pytest.raises(BadRequest, match="temperature is odd") as caught:
        router.invoke("Hi.")
    assert local.asked == []
    assert caught.value.status_code == 400
    causes = caught.value.__cause__.__cause__
    assert isinstance(causes, openai.BadRequestError)


def test_a_mistake_in_a_program_is_not_hidden():
    """A TypeError is raised as it is, and nobody else is asked."""
    cloud = told(said("There."))
    with pytest.raises(TypeError, match="no such argument"):
        AideonRouter(local=told(TypeError("no such argument")), cloud=cloud).invoke("Hi.")
    assert cloud.asked == []


def test_errors_are_langchains_too(together_model, together):
    """When the only model fails, the error is Aideon's and LangChain's, with its route."""
    together.script.fail(Failure.rate_limited(retry_after=7))
    router = AideonRouter(cloud=together_model(), policy="cloud-only", max_retries=0)
    with pytest.raises(ModelRateLimitError) as caught:
        router.invoke("Hi.")
    assert isinstance(caught.value, RateLimited)
    assert caught.value.retry_after == 7
    assert caught.value.status_code == 429
    assert "RateLimited" in caught.value.route.explain()


def test_all_failures_are_told():
    """When nobody could answer, the error holds a cause for each."""
    router = AideonRouter(local=told(TimeoutError()), cloud=told(ConnectionError("gone")))
    router.max_retries = 0
    with pytest.raises(AllBackendsFailed, match="gone") as caught:
        router.invoke("Hi.")
    assert [type(each).__name__ for each in caught.value.exceptions] == [
        "TimedOut",
        "ConnectFailed",
    ]


async def test_a_cut_stream_tells_what_came(together_model, together):
    """A stream that breaks after its first piece raises with what came, and is not begun anew."""
    together.script.reply(*[Reply("One two three four.", cut_after=4)] * 2)
    local = told(said("Here."))
    router = AideonRouter(cloud=together_model(), local=local, policy="cloud-first")
    got = []
    with pytest.raises(StreamInterrupted) as caught:
        got.extend(router.stream("Count."))
    assert got
    assert caught.value.partial.text.startswith("One")
    with pytest.raises(StreamInterrupted):
        [piece async for piece in router.astream("Count.")]
    assert local.asked == []


def test_closing_a_stream_closes_the_models():
    """Whoever stops reading stops the model."""
    model = told([AIMessageChunk("a"), AIMessageChunk("b"), AIMessageChunk("c")])
    stream = AideonRouter(local=model).stream("Hi.")
    assert next(stream).content == "a"
    assert model.closed == []
    stream.close()
    assert model.closed == [True]


async def test_cancelling_passes_through():
    """A cancelled call ends as cancelled, and nobody else is asked."""

    async def forever(_):
        await asyncio.sleep(60)

    cloud = told(said("There."))
    router = AideonRouter(local=RunnableLambda(forever), cloud=cloud)
    call = asyncio.create_task(router.ainvoke("Hi."))
    await asyncio.sleep(0.05)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert cloud.asked == []


async def test_a_deadline_holds_for_every_kind_of_call():
    """What is late is given up at the deadline: blocking, awaited and streamed."""
    started = time.monotonic()
    router = AideonRouter(local=told(said("Late."), wait=1.5))
    with pytest.raises(TimedOut, match=r"0\.1 s"):
        router.invoke("Hi.", deadline=0.1)
    with pytest.raises(TimedOut):
        list(router.stream("Hi.", deadline=0.1))
    with pytest.raises(TimedOut):
        await router.ainvoke("Hi.", deadline=0.1)
    assert time.monotonic() - started < 1.4
    assert AideonRouter(local=told(said("Ok.")), timeout=5).invoke("Hi.").content == "Ok."


def test_tools_are_offered_as_each_class_offers_them(together_model, together):
    """Tools, a tool choice and a tool call pass through a real model, whole and in pieces."""
    together.script.call("weather", city="Oslo")
    together.script.call("weather", city="Rome")
    router = AideonRouter(cloud=together_model(), policy="cloud-only").bind_tools(
        [weather], tool_choice="any", parallel_tool_calls=False
    )
    (call,) = router.invoke("Oslo?").tool_calls
    (streamed,) = joined(router.stream("Rome?")).tool_calls
    assert (call["name"], call["args"]) == ("weather", {"city": "Oslo"})
    assert streamed["args"] == {"city": "Rome"}
    body = together.requests[0].body
    assert body["tool_choice"] == "required"
    assert body["parallel_tool_calls"] is False
    assert body["tools"][0]["function"]["name"] == "weather"


@pytest.mark.parametrize(
    ("choice", "asked"), [("weather", "weather"), (True, "any"), ("auto", "auto")]
)
def test_tool_choices_are_said_in_langchains_words(choice, asked):
    """A model's own bind_tools is given the name of a tool, or one of LangChain's words."""
    model = told(said("Ok."))
    AideonRouter(local=model.with_retry()).bind_tools([weather], tool_choice=choice).invoke("Hi.")
    assert model.asked[0][1]["tool_choice"] == asked


def test_a_providers_tool_passes_unharmed():
    """A tool that runs on a provider's servers reaches its model as it was given."""
    search = {"type": "web_search_20250305", "name": "web_search", "max_uses": 3}
    model = told(said("Ok."))
    AideonRouter(cloud=model).bind_tools([search, weather], tool_choice="any").invoke("Hi.")
    kwargs = model.asked[0][1]
    assert kwargs["tools"][0] == search
    assert kwargs["tools"][1]["function"]["name"] == "weather"


def test_who_cannot_call_tools_is_ruled_out():
    """A model without bind_tools is passed over when there are tools, and the route says why."""
    plain = FakeListChatModel(responses=["Here."])
    router = AideonRouter(local=plain, cloud=told(said("There.")))
    answer = router.bind_tools([weather]).invoke("Hi.")
    assert answer.content == "There."
    assert "call tools" in answer.response_metadata["route"]["explain"]
    assert router.bind_tools([weather], tool_choice="none").invoke("Hi.").content == "Here."


class Person(BaseModel):
    """A person."""

    name: str


def test_structured_output_works_by_tool_call_and_by_schema(together_model, together):
    """A form is asked for by a tool call, or as a schema of who can hold to one."""
    together.script.call("Person", name="Ada")
    together.script.json({"name": "Bob"})
    router = AideonRouter(local=told(said("{}")), cloud=together_model())
    by_call = AideonRouter(cloud=together_model(), policy="cloud-only")
    assert by_call.with_structured_output(Person).invoke("Who?") == Person(name="Ada")
    by_schema = router.with_structured_output(Person, method="json_schema")
    assert by_schema.invoke("Who?") == Person(name="Bob")
    assert together.requests[1].body["response_format"]["type"] == "json_schema"


def test_an_answer_of_a_form_is_checked_and_asked_for_twice():
    """A wrong form is asked for once more, both rounds are counted, and words around JSON go."""
    model = told(said("Nope."), said('Sure! {"name": "Ada"} There.'))
    router = AideonRouter(local=ChatModelLeg(model, side="local", abilities={"json"}))
    asked = router.with_structured_output(Person, method="json_schema", include_raw=True)
    answer = asked.invoke("Who?")
    assert answer["parsed"] == Person(name="Ada")
    assert answer["raw"].content == '{"name":"Ada"}'
    assert answer["raw"].usage_metadata["total_tokens"] == 2 * USAGE["total_tokens"]
    assert [type(turn).__name__ for turn in model.asked[1][0]][-2:] == ["AIMessage", "HumanMessage"]


def test_a_form_is_asked_for_after_the_callers_own_system_message():
    """What the core adds to a system message leaves the provider's blocks in it."""
    model = told(said('{"name": "Ada"}'))
    router = AideonRouter(local=ChatModelLeg(model, side="local", abilities={"json"}))
    cached = {"type": "text", "text": "Be kind.", "cache_control": {"type": "ephemeral"}}
    asked = router.with_structured_output(Person, method="json_schema")
    asked.invoke([SystemMessage([cached, {"cachePoint": {}}]), HumanMessage("Who?")])
    system = model.asked[0][0][0]
    assert system.content[:2] == [cached, {"cachePoint": {}}]
    assert system.content[2]["text"].startswith("Answer with one JSON value")


def test_an_agent_runs_on_a_router():
    """create_agent calls tools through a router and ends with the model's answer."""
    call = {"name": "weather", "args": {"city": "Oslo"}, "id": "c1", "type": "tool_call"}
    router = AideonRouter(local=told(AIMessage("", tool_calls=[call]), said("It rains.")))
    said_last = create_agent(router, tools=[weather]).invoke({"messages": [("user", "Oslo?")]})
    assert [each.content for each in said_last["messages"]][-2:] == ["Rain in Oslo.", "It rains."]


def test_another_model_goes_on_where_a_stream_broke():
    """A leg that can go on from a beginning does, and the caller has one answer."""
    pieces = [AIMessageChunk("One "), AIMessageChunk("two "), ConnectionError("gone")]
    local = FakeBackend(
        "core", side="local", answers=[Completion("three.")], abilities=frozenset({"prefix"})
    )
    router = AideonRouter(cloud=told(pieces), local=local, policy="cloud-first")
    whole = joined(router.stream("Count."))
    assert whole.content == "One two three."
    assert local.requests[0].prefix == "One two "
    assert whole.response_metadata["route"]["side"] == "local"


def test_unknown_arguments_reach_the_models(openai_model, together):
    """What only a library knows is handed on, for that call alone."""
    router = AideonRouter(cloud=openai_model(), policy="cloud-only")
    router.invoke("Hi.", reasoning_effort="low", temperature=0.5, stop=["END"])
    router.invoke("Hi.")
    first, second = (request.body for request in together.requests)
    assert (first["reasoning_effort"], first["temperature"], first["stop"]) == ("low", 0.5, ["END"])
    assert not {"reasoning_effort", "temperature", "stop", "max_tokens"} & second.keys()


def test_cores_own_models_are_legs_too():
    """A backend of the core stands beside LangChain's models, and takes no library's arguments."""
    local = FakeBackend("core", side="local", answers=[Completion("Core.")])
    router = AideonRouter(local=local, cloud=told(said("There.")))
    assert router.invoke("Hi.").content == "Core."
    with pytest.raises(BadRequest, match="reasoning_effort"):
        router.invoke("Hi.", reasoning_effort="low")


def test_a_chat_aideon_is_a_leg():
    """A ChatAideon answers as a leg, with its own route and its own cost kept."""
    backend = FakeBackend("b", side="cloud", answers=[Completion("Inner.", cost=Decimal("0.5"))])
    chat = ChatAideon(client=Client(local=None, cloud=backend, policy="cloud-only", embedding=None))
    router = AideonRouter(cloud=chat, policy="cloud-only")
    for answer in (router.invoke("Hi."), joined(router.stream("Hi."))):
        facts = answer.response_metadata
        assert answer.content == "Inner."
        assert (facts["route"]["backend"], facts["leg_route"]["backend"]) == ("aideon", "b")
        assert facts["cost"] == "0.5"


def test_prices_are_known_of_known_providers(together_model, openai_model):
    """A ChatTogether's answer has a cost, and one from an address that is nobody's has none."""
    legs = [
        build("meta-llama/Llama-3.3-70B-Instruct-Turbo") for build in (together_model, openai_model)
    ]
    router = AideonRouter(cloud=legs, policy="cloud-only")
    costs = [
        router.invoke("Hi.", model=name).response_metadata["cost"]
        for name in ("together", "openai")
    ]
    assert Decimal(costs[0]) > 0
    assert costs[1] is None


@pytest.mark.parametrize("wrong", [3, lambda text: text, {"model": "x"}])
def test_what_is_no_model_is_refused(wrong):
    """Anything that is no Runnable, no name and no backend is a ConfigError that says so."""
    with pytest.raises(ConfigError, match="no chat model"):
        AideonRouter(cloud=[wrong])


def test_other_mistakes_are_told_by_the_constructor():
    """No model, an unknown policy, a leg on the wrong side and a mistyped word are refused."""
    leg = ChatModelLeg(told(said("Hi.")), side="local")
    for fields, error in [
        ({}, ConfigError),
        ({"local": told(), "policy": "lokal"}, ConfigError),
        ({"cloud": leg}, ConfigError),
        ({"local": leg, "temprature": 1}, ValueError),
    ]:
        with pytest.raises(error):
            AideonRouter(**fields)


def test_a_chain_that_gives_no_message_is_told_apart():
    """A Runnable that gives text is refused with a word about RunnableRouter."""
    router = AideonRouter(local=RunnableLambda(lambda _: "text"), cloud=told(said("Hi.")))
    with pytest.raises(ConfigError, match="RunnableRouter"):
        router.invoke("Hi.")


def test_offline_keeps_cloud_models_out(monkeypatch):
    """With AIDEON_OFFLINE nothing is sent to a model of the cloud side."""
    monkeypatch.setenv("AIDEON_OFFLINE", "1")
    cloud = told(said("There."))
    router = AideonRouter(local=told(said("Here.")), cloud=cloud, policy="cloud-first")
    assert router.invoke("Hi.").content == "Here."
    assert cloud.asked == []


def test_a_cache_tells_routers_apart():
    """A cached answer of one router is not given by one of other models, settings or policy."""
    cache = InMemoryCache()

    def answers(policy="local-first", **settings):
        model = GenericFakeChatModel(
            messages=iter([AIMessage(text) for text in "abcdefgh"]), **settings
        )
        router = AideonRouter(local=model, policy=policy, cache=cache)
        return [router.invoke("Hi.").content for _ in range(2)]

    assert answers() == ["a", "a"]
    assert len(cache._cache) == 1
    answers(policy="local-only")
    answers(metadata={"other": "model"}, disable_streaming=True)
    AideonRouter(local=told(said("x")), cache=cache).invoke("Hi.")
    AideonRouter(local=told(said("x"), named="y"), cache=cache).invoke("Hi.")
    AideonRouter(local=told(said("x")), cache=cache, temperature=0.1).invoke("Hi.")
    assert len(cache._cache) >= 5


def test_keys_show_nowhere(together_model):
    """A repr shows the models' names, and nothing of their keys."""
    router = AideonRouter(cloud=together_model(api_key="canary-key"))
    shown = repr(router) + str(router._identifying_params) + router._get_llm_string()
    assert MODEL in shown
    assert "canary-key" not in shown


def test_unsupported_by_all_says_so():
    """When no model can do what is asked, the error names the ability."""
    with pytest.raises(Unsupported, match="several answers"):
        AideonRouter(local=told(said("Hi."))).invoke("Hi.", n=2)
