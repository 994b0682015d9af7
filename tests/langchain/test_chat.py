"""ChatAideon over the loopback server and over backends that answer from memory."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest
from langchain_core.load import dumps, load
from langchain_core.messages import HumanMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import ConfigurableField
from langchain_core.tools import tool

from aideon_core import Client, Completion, TogetherBackend, ToolCall, Usage
from aideon_core.errors import BadRequest, ConfigError, NotGguf, NotPulled, UnknownModel
from aideon_testing import Failure, FakeBackend, Reply
from langchain_aideon import ChatAideon


@tool
def weather(city: str) -> str:
    """Tell the weather in a city."""
    return f"Rain in {city}."


def test_invoke_answers_with_usage_cost_and_route(chat_over, together):
    """An answer says what it says, what it took, and who gave it and why."""
    together.script.say("2, 3 and 5.")
    answer = chat_over().invoke("Name three primes.")
    assert answer.content == "2, 3 and 5."
    assert answer.usage_metadata["input_tokens"] > 0
    assert answer.usage_metadata["output_tokens"] > 0
    assert answer.usage_metadata["output_token_details"] == {"reasoning": 0}
    facts = answer.response_metadata
    assert facts["model_name"] == "meta-llama/Llama-3.3-70B-Instruct-Turbo"
    assert facts["model_provider"] == "aideon"
    assert facts["finish_reason"] == "stop"
    assert facts["route"]["side"] == "cloud"
    assert facts["route"]["explain"].startswith(
        "cloud: meta-llama/Llama-3.3-70B-Instruct-Turbo answered"
    )
    assert Decimal(facts["cost"]) > 0
    json.dumps(facts)


def test_parameters_reach_the_model(chat_over, together):
    """Constructor parameters are sent, and those of a call come before them."""
    together.script.say("One.", "Two.")
    chat = chat_over(temperature=0.5, max_tokens=9, top_p=0.9, seed=7, stop=["END"])
    chat.invoke("Count.")
    chat.invoke("Count.", temperature=0, stop=["STOP"])
    first, second = (request.body for request in together.requests)
    assert (first["temperature"], first["max_tokens"], first["top_p"]) == (0.5, 9, 0.9)
    assert (first["seed"], first["stop"]) == (7, ["END"])
    assert (second["temperature"], second["stop"]) == (0, ["STOP"])


def test_several_answers_are_several_generations(chat_over, together):
    """With n, every answer is a generation; a stream, which could only mix them, refuses."""
    together.script.say("One.", "Two.")
    chat = chat_over()
    (generations,) = chat.generate([[HumanMessage("Count.")]], n=2).generations
    assert [each.text for each in generations] == ["One.", "Two."]
    assert generations[0].message.usage_metadata is not None
    assert generations[1].message.usage_metadata is None
    with pytest.raises(BadRequest, match="n at 1"):
        list(chat.stream("Count.", n=2))


def test_the_samplers_of_open_models_are_sent(chat_over, together):
    """Parameters that LangChain has no name for pass through a call and a binding."""
    chat_over().bind(top_k=5, min_p=0.1).invoke("Count.", repetition_penalty=1.1)
    wanted = {"top_k": 5, "min_p": 0.1, "repetition_penalty": 1.1}
    assert wanted.items() <= together.requests[0].body.items()


def test_stream_says_the_same_in_pieces(chat_over, together):
    """A stream's pieces add up to the answer, with its usage and its facts once."""
    together.script.say("Two, three and five.")
    pieces = list(chat_over().stream("Name three primes."))
    assert len([piece for piece in pieces if piece.content]) > 1
    assert len([piece for piece in pieces if piece.usage_metadata]) == 1
    assert pieces[-1].chunk_position == "last"
    whole = pieces[0]
    for piece in pieces[1:]:
        whole += piece
    assert whole.content == "Two, three and five."
    assert whole.response_metadata["model_name"] == "meta-llama/Llama-3.3-70B-Instruct-Turbo"
    assert whole.response_metadata["finish_reason"] == "stop"
    assert whole.response_metadata["route"]["side"] == "cloud"


async def test_async_calls_say_the_same(chat_over, together):
    """Ainvoke and astream answer as invoke and stream do."""
    together.script.say("Two.", "Two and three.")
    chat = chat_over()
    answer = await chat.ainvoke("Name a prime.")
    pieces = [piece async for piece in chat.astream("Name two.")]
    assert answer.content == "Two."
    assert answer.response_metadata["route"]["side"] == "cloud"
    assert "".join(piece.content for piece in pieces) == "Two and three."
    assert len([piece for piece in pieces if piece.usage_metadata]) == 1


def test_batch_answers_every_prompt(chat_over):
    """Batch gives one answer for each prompt, in their order."""
    answers = chat_over().batch(["red", "green", "blue"])
    assert [answer.content.rsplit(maxsplit=1)[-1] for answer in answers] == ["red", "green", "blue"]


def test_streaming_makes_invoke_stream(chat_over, together):
    """With streaming=True invoke gives the same answer from a streamed request."""
    together.script.say("Streamed.")
    assert chat_over(streaming=True).invoke("Say it.").content == "Streamed."
    assert together.requests[0].body["stream"] is True


def test_a_chain_runs(chat_over, together):
    """The model fits between a prompt and a parser."""
    together.script.say("Heron.")
    chain = ChatPromptTemplate.from_template("Name a {kind}.") | chat_over() | StrOutputParser()
    assert chain.invoke({"kind": "bird"}) == "Heron."


def test_tool_calls_come_out_parsed(chat_over, together):
    """A tool call arrives with its arguments as values, and the tool was offered."""
    together.script.call("weather", city="Oslo")
    answer = chat_over().bind_tools([weather]).invoke("Weather in Oslo?")
    (call,) = answer.tool_calls
    assert (call["name"], call["args"]) == ("weather", {"city": "Oslo"})
    assert answer.response_metadata["finish_reason"] == "tool_calls"
    assert together.requests[0].body["tools"][0]["function"]["name"] == "weather"


def test_tool_calls_stream(chat_over, together):
    """The pieces of a streamed tool call join to the whole call."""
    together.script.call("weather", city="Oslo")
    whole = None
    for piece in chat_over().bind_tools([weather]).stream("Weather in Oslo?"):
        whole = piece if whole is None else whole + piece
    (call,) = whole.tool_calls
    assert (call["name"], call["args"]) == ("weather", {"city": "Oslo"})
    assert call["id"]


@pytest.mark.parametrize("arguments", ['{"city": ', "[1]"])
def test_a_garbled_tool_call_is_kept_as_invalid(chat_over, together, arguments):
    """Arguments that are no JSON object become an invalid_tool_call, not an exception."""
    together.script.reply(Reply(tool_calls=(ToolCall("c1", "weather", arguments),)))
    answer = chat_over().bind_tools([weather]).invoke("Weather?")
    assert answer.tool_calls == []
    assert answer.invalid_tool_calls[0]["args"] == arguments


@pytest.mark.parametrize(
    ("choice", "sent"),
    [
        ("any", "required"),
        (True, "required"),
        ("auto", "auto"),
        ("none", "none"),
        ("weather", {"type": "function", "function": {"name": "weather"}}),
    ],
)
def test_tool_choice_takes_langchains_words(chat_over, together, choice, sent):
    """LangChain's words for a tool choice reach the model in its own."""
    chat_over().bind_tools([weather], tool_choice=choice).invoke("Weather?")
    assert together.requests[0].body["tool_choice"] == sent


def test_no_tools_can_be_bound(chat_over, together):
    """An empty list of tools sends none, and keeps what is bound with it."""
    shape = {"type": "json_object"}
    chat_over().bind_tools([], response_format=shape).invoke("JSON please.")
    body = together.requests[0].body
    assert "tools" not in body
    assert body["response_format"] == shape


def test_structured_output_by_tool_call(chat_over, together):
    """with_structured_output returns what the model filled in."""
    schema = {
        "title": "person",
        "description": "A person.",
        "type": "object",
        "properties": {"name": {"type": "string"}},
    }
    together.script.call("person", name="Ada")
    person = chat_over().with_structured_output(schema, method="function_calling")
    assert person.invoke("Who?") == {"name": "Ada"}


def test_reasoning_is_kept_apart(chat_over, together):
    """A model's thoughts come as reasoning_content, whole or in pieces."""
    reply = Reply("Five.", reasoning="Two and three.", usage=Usage(3, 9, 2, 6))
    together.script.reply(reply, reply)
    chat = chat_over(cloud="openai/gpt-oss-120b")
    whole = chat.invoke("2 + 3?")
    pieces = list(chat.stream("2 + 3?"))
    thoughts = [piece.additional_kwargs.get("reasoning_content", "") for piece in pieces]
    assert whole.additional_kwargs["reasoning_content"] == "Two and three."
    assert "".join(thoughts) == "Two and three."
    assert whole.content == "Five."
    assert whole.usage_metadata["input_token_details"] == {"cache_read": 2}
    assert whole.usage_metadata["output_token_details"] == {"reasoning": 6}


def test_a_local_model_answers_first():
    """A ready client brings its own backends, and the local one costs nothing."""
    local = FakeBackend(
        "local", side="local", answers=[Completion("Here.", usage=Usage(2, 1), cost=Decimal(0))]
    )
    cloud = FakeBackend("cloud", side="cloud")
    answer = ChatAideon(client=Client(local=local, cloud=cloud)).invoke("Where?")
    assert answer.content == "Here."
    assert answer.response_metadata["route"]["side"] == "local"
    assert answer.response_metadata["cost"] == "0"
    assert cloud.requests == []


async def test_the_cloud_steps_in_for_a_missing_local_model():
    """A model not pulled yet falls back to the cloud, awaited or not, and the route says so."""
    local = FakeBackend("local", side="local", unavailable=NotPulled("It is not here."))
    chat = ChatAideon(client=Client(local=local, cloud=FakeBackend("cloud", side="cloud")))
    for answer in (chat.invoke("Hello?"), await chat.ainvoke("Hello?")):
        assert answer.response_metadata["route"]["side"] == "cloud"
        assert "NotPulled" in answer.response_metadata["route"]["reason"]


def test_the_local_model_steps_in_for_the_cloud(chat_over, together):
    """cloud-first answers locally when the cloud fails."""
    together.script.fail(Failure.server_error())
    cloud = TogetherBackend(
        "meta-llama/Llama-3.3-70B-Instruct-Turbo", api_key="k", base_url=together.base_url
    )
    client = Client(local=FakeBackend("local", side="local"), cloud=cloud, policy="cloud-first")
    with client:
        answer = ChatAideon(client=client).invoke("Hello?")
    assert answer.response_metadata["route"]["side"] == "local"
    assert "ServerError" in answer.response_metadata["route"]["reason"]


def test_mistakes_are_told_by_the_constructor(tmp_path):
    """A wrong model, policy, file or parameter is an error before the first message."""
    impostor = tmp_path / "model.gguf"
    impostor.write_text("not a model")
    for fields, error in [
        ({"local": "no-such-model"}, UnknownModel),
        ({"local": str(impostor)}, NotGguf),
        ({"policy": "lokal-first"}, ConfigError),
        ({"local": None, "cloud": None}, ConfigError),
        ({"temprature": 0}, ValueError),
        ({"client": Client(), "cloud": None}, ConfigError),
    ]:
        with pytest.raises(error):
            ChatAideon(**fields)


@pytest.mark.filterwarnings("ignore:The function `load` is in beta")
def test_a_model_without_a_cloud_is_loaded_without_one():
    """Serialization keeps "no cloud side", so a private model stays private."""
    chat = ChatAideon(cloud=None, policy="local-only")
    again = load(
        json.loads(dumps(chat)), allowed_objects=[ChatAideon], valid_namespaces=["langchain_aideon"]
    )
    assert again.cloud is None
    assert again.policy == "local-only"


def test_parameters_can_be_made_configurable():
    """configurable_fields changes a parameter for one call and keeps the client given."""
    local = FakeBackend("local", side="local")
    chat = ChatAideon(client=Client(local=local, cloud=None)).configurable_fields(
        temperature=ConfigurableField(id="temperature")
    )
    chat.invoke("Hello?", {"configurable": {"temperature": 0.5}})
    assert local.requests[0].temperature == 0.5
