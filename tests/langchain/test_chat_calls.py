"""ChatAideon among LangChain's own machinery: what a call may change, and what it tells of."""

from __future__ import annotations

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import wrap_model_call
from langchain_core.callbacks import BaseCallbackHandler, UsageMetadataCallbackHandler
from langchain_core.exceptions import (
    ContextOverflowError,
    ModelAPIError,
    ModelAuthenticationError,
    ModelInvalidRequestError,
    ModelNotFoundError,
    ModelRateLimitError,
)
from langchain_core.messages import HumanMessage
from langchain_core.runnables import RunnableLambda
from langchain_core.tools import tool
from langchain_core.tracers.context import collect_runs
from pydantic import BaseModel
from pydantic.v1 import BaseModel as BaseModelV1
from typing_extensions import TypedDict

from aideon_core import Client, Completion
from aideon_core.errors import (
    BadRequest,
    ContextTooLong,
    NotFound,
    RateLimited,
    ServerError,
    StreamInterrupted,
)
from aideon_testing import Cut, Failure, FakeBackend
from langchain_aideon import ChatAideon

CLOUD = "meta-llama/Llama-3.3-70B-Instruct-Turbo"
OTHER = "openai/gpt-oss-20b"


@tool
def weather(city: str) -> str:
    """Tell the weather in a city."""
    return f"Rain in {city}."


def forecast(city: str) -> str:
    """Tell the weather of tomorrow."""
    return f"Sun in {city}."


class Weather(BaseModel):
    """Tell the weather."""

    city: str


class WeatherV1(BaseModelV1):
    """Tell the weather."""

    city: str


class WeatherDict(TypedDict):
    """Tell the weather."""

    city: str


PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}}


class Events(BaseCallbackHandler):
    """Notes what happens to a run."""

    def __init__(self):
        self.starts, self.tokens, self.ends, self.errors = 0, [], [], []

    def on_chat_model_start(self, *args, **kwargs):
        self.starts += 1

    def on_llm_new_token(self, token, **kwargs):
        self.tokens.append(token)

    def on_llm_end(self, response, **kwargs):
        self.ends.append(response)

    def on_llm_error(self, error, *, response=None, **kwargs):
        self.errors.append((error, response))


def over(local=(), cloud=(), **fields):
    """A ChatAideon over two backends that answer from memory, and the backends."""
    backends = [
        FakeBackend(side, side=side, model=f"{side}-model", answers=answers or [Completion("Hi.")])
        for side, answers in (("local", local), ("cloud", cloud))
    ]
    policy = fields.pop("policy", "local-first")
    client = Client(local=backends[0], cloud=backends[1], policy=policy, max_retries=0)
    return ChatAideon(client=client, **fields), *backends


def test_every_parameter_may_be_a_field(chat_over, together):
    """Parameters of the constructor are sent with every call."""
    fields = {
        "presence_penalty": 0.1,
        "frequency_penalty": 0.2,
        "repetition_penalty": 1.1,
        "top_k": 5,
        "min_p": 0.1,
        "n": 2,
        "logprobs": True,
        "top_logprobs": 2,
        "logit_bias": {7: 1.0},
    }
    chat_over(**fields).generate([[HumanMessage("Count.")]])
    body = together.requests[0].body
    sent = {"presence_penalty", "frequency_penalty", "repetition_penalty", "top_k", "min_p", "n"}
    assert {name: body[name] for name in sent} == {name: fields[name] for name in sent}
    assert body["logit_bias"] == {"7": 1.0}
    assert body["logprobs"]


def test_a_deadline_bounds_the_whole_answer():
    """Deadline is a field and a parameter of a call, which comes first."""
    chat, local, _ = over(deadline=30)
    chat.invoke("Hello?")
    chat.invoke("Hello?", deadline=5)
    assert 29 < local.requests[0].deadline <= 30
    assert 4 < local.requests[1].deadline <= 5


async def test_a_call_may_name_its_model(chat_over, together):
    """model= of a call or a binding is the one asked, and the one the answer names."""
    chat = chat_over()
    answers = [
        chat.invoke("Hello?", model=OTHER),
        chat.bind(model=OTHER).invoke("Hello?"),
        await chat.ainvoke("Hello?", model=OTHER),
    ]
    whole = None
    for chunk in chat.stream("Hello?", model=OTHER):
        whole = chunk if whole is None else whole + chunk
    assert [request.body["model"] for request in together.requests] == [OTHER] * 4
    names = {answer.response_metadata["model_name"] for answer in [*answers, whole]}
    assert names == {OTHER}


async def test_a_call_may_have_its_own_policy():
    """policy= of a call, of a binding or of a stream rules for that one alone."""
    chat, local, cloud = over()
    chat.invoke("Hello?", policy="cloud-only")
    chat.bind(policy="cloud-only").invoke("Hello?")
    list(chat.stream("Hello?", policy="cloud-only"))
    await chat.ainvoke("Hello?", policy="cloud-only")
    assert (len(local.requests), len(cloud.requests)) == (0, 4)
    chat.invoke("Hello?")
    assert len(local.requests) == 1


def test_an_agent_s_middleware_may_set_parameters():
    """model_settings reach the call, model and policy among them."""
    chat, local, cloud = over()

    @wrap_model_call
    def privately(request, handler):
        return handler(request.override(model_settings={"policy": "cloud-only", "temperature": 0}))

    agent = create_agent(chat, tools=[weather], middleware=[privately])
    agent.invoke({"messages": [("user", "Hello?")]})
    assert local.requests == []
    assert cloud.requests[0].temperature == 0
    assert cloud.requests[0].tools[0]["function"]["name"] == "weather"


def test_traces_name_the_model_of_the_call(chat_over):
    """What a tracer is told follows the call: provider, model, temperature, stop."""
    chat = chat_over(temperature=0.5, max_tokens=9, stop=["END"])
    with collect_runs() as runs:
        chat.invoke("Hello?")
        chat.invoke("Hello?", model=OTHER, temperature=0, stop=["STOP"])
    first, second = (run.extra["metadata"] for run in runs.traced_runs)
    told = ("ls_provider", "ls_model_name", "ls_temperature", "ls_max_tokens", "ls_stop")
    assert [first[key] for key in told] == ["aideon", CLOUD, 0.5, 9, ["END"]]
    assert [second[key] for key in told] == ["aideon", OTHER, 0, 9, ["STOP"]]


@pytest.mark.parametrize(
    ("given", "name"),
    [
        (weather, "weather"),
        (forecast, "forecast"),
        (Weather, "Weather"),
        (WeatherV1, "WeatherV1"),
        (WeatherDict, "WeatherDict"),
        ({"title": "weather", "description": "Tell it.", **PARAMETERS}, "weather"),
        ({"name": "weather", "description": "Tell it.", "input_schema": PARAMETERS}, "weather"),
        (
            {"type": "function", "function": {"name": "weather", "parameters": PARAMETERS}},
            "weather",
        ),
    ],
)
def test_every_kind_of_tool_can_be_bound(chat_over, together, given, name):
    """Whatever LangChain makes a tool of is offered by its name, with its parameters."""
    chat_over().bind_tools([given], tool_choice=name, parallel_tool_calls=False).invoke("Hello?")
    body = together.requests[0].body
    (sent,) = body["tools"]
    assert sent["function"]["name"] == name
    assert "city" in sent["function"]["parameters"]["properties"]
    assert body["tool_choice"] == {"type": "function", "function": {"name": name}}
    assert body["parallel_tool_calls"] is False


@pytest.mark.filterwarnings("ignore:This API is in beta")
def test_a_runnable_can_be_a_tool(chat_over, together):
    """What as_tool makes of a runnable is offered as any tool."""
    look = RunnableLambda(lambda given: given["city"]).as_tool(
        name="look", description="Look.", arg_types={"city": str}
    )
    chat_over().bind_tools([look]).invoke("Hello?")
    assert together.requests[0].body["tools"][0]["function"]["name"] == "look"


def test_strict_tools_say_so(chat_over, together):
    """strict=True is sent with each tool, which then allows no further arguments."""
    chat_over().bind_tools([weather], strict=True).invoke("Hello?")
    function = together.requests[0].body["tools"][0]["function"]
    assert function["strict"] is True
    assert function["parameters"]["additionalProperties"] is False


@pytest.mark.parametrize("choice", [None, False])
def test_no_tool_choice_is_none_of_ours(chat_over, together, choice):
    """Without a choice the model's own default holds."""
    chat_over().bind_tools([weather], tool_choice=choice).invoke("Hello?")
    assert "tool_choice" not in together.requests[0].body


@pytest.mark.parametrize(
    "choice",
    [
        {"type": "function", "function": {"name": "weather"}},
        {"type": "tool", "name": "weather"},
        "weather",
    ],
)
def test_one_tool_may_be_named_in_every_way(chat_over, together, choice):
    """A tool's name, OpenAI's object and Anthropic's ask for the same call."""
    chat_over().bind_tools([weather, forecast], tool_choice=choice).invoke("Hello?")
    wanted = {"type": "function", "function": {"name": "weather"}}
    assert together.requests[0].body["tool_choice"] == wanted


@pytest.mark.parametrize(
    ("tools", "choice"),
    [
        ([weather], "wether"),
        ([weather], {"type": "function", "function": {"name": "wether"}}),
        ([], "any"),
        ([], "weather"),
        ([7], None),
        ([{"type": "file_search"}], None),
        ([{"type": "object", "properties": {}}], None),
    ],
)
def test_tools_that_are_none_are_refused(chat_over, tools, choice):
    """A choice of an unknown tool, or a tool nobody can call, is an error when it is bound."""
    with pytest.raises(ModelInvalidRequestError, match=r"tool") as caught:
        chat_over().bind_tools(tools, tool_choice=choice)
    assert isinstance(caught.value, BadRequest)
    assert caught.value.hint


@pytest.mark.parametrize("choice", [None, False, "auto", "none"])
def test_no_tools_need_no_choice(chat_over, together, choice):
    """An empty list with a choice that forces nothing is a call without tools."""
    chat_over().bind_tools([], tool_choice=choice).invoke("Hello?")
    assert not {"tools", "tool_choice"} & together.requests[0].body.keys()


@pytest.mark.parametrize(
    ("raised", "wanted"),
    [
        (RateLimited("Slow down."), ModelRateLimitError),
        (ServerError("It is down."), ModelAPIError),
        (NotFound("No such model."), ModelNotFoundError),
        (ContextTooLong("Too long."), ContextOverflowError),
    ],
)
async def test_errors_are_langchains_too(raised, wanted):
    """What fails raises LangChain's class, with our route and hint, in all four methods."""
    chat, *_ = over(cloud=[raised], policy="cloud-only")

    async def astream():
        return [chunk async for chunk in chat.astream("Hello?")]

    for call in (lambda: chat.invoke("Hello?"), lambda: list(chat.stream("Hello?"))):
        with pytest.raises(wanted) as caught:
            call()
        assert isinstance(caught.value, type(raised))
        assert caught.value.route is not None
    for acall in (lambda: chat.ainvoke("Hello?"), astream):
        with pytest.raises(wanted):
            await acall()


def test_a_missing_key_is_an_authentication_error(chat_over):
    """No key is told when it is needed, as LangChain's own error."""
    with pytest.raises(ModelAuthenticationError):
        chat_over(api_key=None).invoke("Hello?")


def test_with_retry_asks_again(chat_over, together):
    """LangChain's with_retry retries what LangChain calls a rate limit."""
    together.script.fail(Failure.rate_limited())
    together.script.say("Here.")
    chat = chat_over().with_retry(
        retry_if_exception_type=(ModelRateLimitError,),
        stop_after_attempt=2,
        wait_exponential_jitter=False,
    )
    assert chat.invoke("Hello?").content == "Here."
    assert len(together.requests) == 2


def test_with_fallbacks_goes_on_to_another_model():
    """A model that fails hands over to the fallback."""
    broken, *_ = over(local=[ServerError("It is down.")], policy="local-only")
    sound, *_ = over(local=[Completion("Here.")])
    assert broken.with_fallbacks([sound]).invoke("Hello?").content == "Here."


async def test_batch_returns_the_exceptions_of_some():
    """With return_exceptions a failed prompt does not take the others with it."""
    for ask in ("batch", "abatch"):
        chat, *_ = over(
            local=[Completion("One."), ServerError("It is down."), Completion("Three.")]
        )
        config = {"max_concurrency": 1}
        answers = getattr(chat, ask)(
            ["1", "2", "3"], config, policy="local-only", return_exceptions=True
        )
        answers = answers if ask == "batch" else await answers
        contents = [getattr(answer, "content", type(answer)) for answer in answers]
        assert contents[0] == "One."
        assert issubclass(contents[1], ModelAPIError)
        assert contents[2] == "Three."


async def test_callbacks_see_one_run_and_each_piece():
    """A stream is one start, one token event a piece, and one end with the whole."""
    for ask in ("stream", "astream"):
        chat, *_ = over(local=[Completion("One two three.")])
        events = Events()
        chunks = getattr(chat, ask)("Count.", {"callbacks": [events]})
        pieces = list(chunks) if ask == "stream" else [chunk async for chunk in chunks]
        assert (events.starts, len(events.ends), events.errors) == (1, 1, [])
        assert events.tokens == [piece.content for piece in pieces]
        assert events.ends[0].generations[0][0].text == "One two three."


def test_an_invoke_is_one_run_without_pieces():
    """A whole answer is one start and one end."""
    chat, *_ = over()
    events = Events()
    chat.invoke("Hello?", {"callbacks": [events]})
    assert (events.starts, events.tokens, len(events.ends)) == (1, [], 1)


async def test_a_broken_stream_tells_callbacks_what_was_delivered():
    """on_llm_error gets the error and the pieces before it; the error holds them as well."""
    for ask in ("stream", "astream"):
        chat, *_ = over(local=[Cut(Completion("One two three."), after=2)])
        events = Events()
        chunks = getattr(chat, ask)("Count.", {"callbacks": [events]})
        with pytest.raises(StreamInterrupted) as caught:
            list(chunks) if ask == "stream" else [chunk async for chunk in chunks]
        ((error, response),) = events.errors
        assert error is caught.value
        assert response.generations[0][0].text == caught.value.partial.text != ""


def test_usage_is_counted_by_langchains_handler(chat_over):
    """LangChain's own usage handler finds the model and its tokens, streamed or not."""
    chat, usage = chat_over(), UsageMetadataCallbackHandler()
    chat.invoke("Hello?", {"callbacks": [usage]})
    once = usage.usage_metadata[CLOUD]["total_tokens"]
    list(chat.stream("Hello?", {"callbacks": [usage]}))
    assert usage.usage_metadata[CLOUD]["total_tokens"] == 2 * once > 0


@pytest.mark.parametrize(
    ("disabled", "streams"), [(True, False), ("tool_calling", False), (False, True)]
)
def test_streaming_can_be_disabled(chat_over, together, disabled, streams):
    """disable_streaming makes stream ask for a whole answer, always or where tools are bound."""
    chat = chat_over(disable_streaming=disabled).bind_tools([weather])
    assert "".join(chunk.text for chunk in chat.stream("Hello?"))
    assert bool(together.requests[0].body.get("stream")) is streams


async def test_streamed_events_name_the_model_run(chat_over, together):
    """astream_events tells of the model's start, pieces and end."""
    together.script.say("One two three.")
    events = [event async for event in chat_over().astream_events("Count.", version="v2")]
    kinds = [event["event"] for event in events]
    assert kinds[0] == "on_chat_model_start"
    assert kinds[-1] == "on_chat_model_end"
    assert kinds.count("on_chat_model_stream") > 1
    assert events[-1]["data"]["output"].content == "One two three."
