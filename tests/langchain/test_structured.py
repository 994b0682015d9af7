"""Answers of a form: every method, every kind of schema, whole and streamed."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import date
from enum import Enum
from typing import Annotated, Literal, NotRequired

import pytest
from langchain.agents import create_agent
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.exceptions import OutputParserException
from langchain_core.tools import tool
from pydantic import BaseModel, Field, field_validator
from pydantic.v1 import BaseModel as BaseModelV1
from typing_extensions import TypedDict

from aideon_core import Client, Completion, ToolCall, Usage
from aideon_core.errors import ServerError
from aideon_testing import FakeBackend, Reply
from langchain_aideon import ChatAideon


class Person(BaseModel):
    """Somebody."""

    name: str
    age: int = Field(ge=0)


class PersonV1(BaseModelV1):
    """Somebody."""

    name: str
    age: int


@dataclass
class PersonData:
    """Somebody."""

    name: str
    age: int


class PersonDict(TypedDict):
    """Somebody."""

    name: Annotated[str, ..., "What they are called."]
    age: int


class PersonPart(TypedDict):
    """Somebody."""

    name: str
    age: NotRequired[int]


class PersonHalf(TypedDict, total=False):
    name: str
    age: int


class Tree(BaseModel):
    """What branches."""

    name: str
    branches: list[Tree] = []


class Colour(Enum):
    """What birds have."""

    RED = "red"


SCHEMA = {
    "title": "Person",
    "description": "Somebody.",
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
    "required": ["name", "age"],
}
UNTITLED = {key: value for key, value in SCHEMA.items() if key != "title"}
ADA = {"name": "Ada", "age": 36}
KINDS = [
    (Person, Person(**ADA)),
    (PersonV1, PersonV1(**ADA)),
    (PersonData, PersonData(**ADA)),
    (PersonDict, ADA),
    (PersonPart, ADA),
    (SCHEMA, ADA),
    (UNTITLED, ADA),
    ({"name": "Person", "description": "Somebody.", "parameters": UNTITLED}, ADA),
]
TREE = {"name": "oak", "branches": [{"name": "twig", "branches": []}]}
METHODS = ("json_schema", "function_calling", "json_mode")


@tool
def weather(city: str) -> str:
    """Tell the weather in a city."""
    return f"Rain in {city}."


def says(together, method, value, schema=SCHEMA):
    """Have the server answer with a value, as a model asked by that method would."""
    if method == "function_calling":
        name = getattr(schema, "__name__", None) or dict(schema).get("title")
        together.script.call(name or dict(schema).get("name", "answer"), **value)
    else:
        together.script.json(value)


class Starts(BaseCallbackHandler):
    """Notes how often a model was started, and with what options."""

    def __init__(self):
        self.options = []

    def on_chat_model_start(self, serialized, messages, *, options=None, **kwargs):
        self.options.append(options)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("schema", "value"), KINDS)
async def test_every_kind_of_schema_by_every_method(chat_over, together, method, schema, value):
    """Classes come back as instances and schemas as dicts, awaited or not."""
    says(together, method, ADA, schema)
    says(together, method, ADA, schema)
    runnable = chat_over().with_structured_output(schema, method=method)
    assert runnable.invoke("Who? JSON.") == value
    assert await runnable.ainvoke("Who? JSON.") == value


def test_a_form_goes_to_the_model_as_its_method_says(chat_over, together):
    """json_schema sends the schema, function_calling forces one call, json_mode wants JSON."""
    for method in METHODS:
        says(together, method, ADA)
        chat_over().with_structured_output(Person, method=method).invoke("Who? JSON.")
    schema, call, mode = (request.body for request in together.requests)
    assert schema["response_format"]["type"] == "json_schema"
    assert schema["response_format"]["json_schema"]["name"] == "Person"
    assert "tools" not in schema
    assert call["tool_choice"] == {"type": "function", "function": {"name": "Person"}}
    assert call["tools"][0]["function"]["description"] == "Somebody."
    assert call["parallel_tool_calls"] is False
    assert mode["response_format"] == {"type": "json_object"}


def test_json_schema_is_what_is_used_without_a_word(chat_over, together):
    """The default method is the one that holds the model to the schema on both sides."""
    together.script.json(ADA)
    assert chat_over().with_structured_output(Person).invoke("Who?") == Person(**ADA)
    assert together.requests[0].body["response_format"]["type"] == "json_schema"


@pytest.mark.parametrize("method", ["json_schema", "function_calling"])
def test_strict_sends_the_schema_as_strict_mode_wants_it(chat_over, together, method):
    """strict=True allows no further properties and says so on the wire."""
    says(together, method, ADA)
    runnable = chat_over().with_structured_output(Person, method=method, strict=True)
    assert runnable.invoke("Who?") == Person(**ADA)
    body = together.requests[0].body
    if method == "json_schema":
        named = body["response_format"]["json_schema"]
        schema = named["schema"]
    else:
        named = body["tools"][0]["function"]
        schema = named["parameters"]
    assert named["strict"] is True
    assert schema["additionalProperties"] is False


def test_an_unstrict_form_is_sent_as_it_is(chat_over, together):
    """strict=False asks for no check and no second answer; the parser alone has its say."""
    together.script.json({"name": "Ada"})
    runnable = chat_over().with_structured_output(SCHEMA, strict=False)
    assert runnable.invoke("Who?") == {"name": "Ada"}
    (request,) = together.requests
    assert request.body["response_format"]["json_schema"]["strict"] is False


def test_an_answer_of_another_form_is_asked_for_once_more(chat_over, together):
    """One repair round happens inside of the run, and usage counts both answers."""
    together.script.json({"name": "Ada"}, ADA)
    runnable = chat_over().with_structured_output(Person, include_raw=True)
    answer = runnable.invoke("Who?")
    assert answer["parsed"] == Person(**ADA)
    assert len(together.requests) == 2
    assert answer["raw"].response_metadata["route"]["side"] == "cloud"


def test_a_class_has_its_own_validators_heard(chat_over, together):
    """What only the class can check is asked for once more too."""

    class Even(BaseModel):
        number: int

        @field_validator("number")
        @classmethod
        def _even(cls, value):
            if value % 2:
                raise ValueError("it has to be even")
            return value

    together.script.json({"number": 3}, {"number": 4})
    assert chat_over().with_structured_output(Even).invoke("A number?") == Even(number=4)
    assert "it has to be even" in json.dumps(together.requests[1].body["messages"])


def test_an_answer_that_stays_wrong_is_an_output_parser_error(chat_over, together):
    """LangChain's own exception tells of an answer that cannot be read, with the answer."""
    together.script.json({"name": "Ada"}, {"name": "Ada"})
    with pytest.raises(OutputParserException) as caught:
        chat_over().with_structured_output(Person).invoke("Who?")
    assert json.loads(caught.value.llm_output) == {"name": "Ada"}


@pytest.mark.parametrize("method", METHODS)
async def test_include_raw_keeps_the_message_and_the_error(chat_over, together, method):
    """include_raw gives the message, what it parsed to, and why it did not."""
    says(together, method, ADA)
    for _ in range(4):
        says(together, method, {"name": "Ada"})
    runnable = chat_over().with_structured_output(Person, method=method, include_raw=True)
    good = runnable.invoke("Who? JSON.")
    assert (good["parsing_error"], good["raw"].type) == (None, "ai")
    assert good["parsed"] == Person(**ADA)
    bad = await runnable.ainvoke("Who? JSON.")
    assert isinstance(bad["parsing_error"], OutputParserException)
    assert (bad["parsed"], bad["raw"].type) == (None, "ai")


async def test_a_message_of_another_form_comes_with_a_warning(chat_over, together):
    """An answer that cannot be read is still the answer, and its metadata says what is wrong."""
    form = {"type": "json_schema", "json_schema": {"name": "Person", "schema": SCHEMA}}
    together.script.json(*[{"name": "Ada"}] * 4)
    chat = chat_over().bind(response_format=form)
    for answer in (chat.invoke("Who?"), await chat.ainvoke("Who?")):
        assert json.loads(answer.content) == {"name": "Ada"}
        assert "age" in str(answer.response_metadata["warnings"])
        assert answer.response_metadata["route"]["policy"] == "cloud-only"


async def test_a_streamed_message_of_another_form_comes_with_a_warning(chat_over, together):
    """A stream is not asked for again: it ends as any stream, with a warning on its end."""
    form = {"type": "json_schema", "json_schema": {"name": "Person", "schema": SCHEMA}}
    together.script.json(*[{"name": "Ada"}] * 2)
    chat = chat_over().bind(response_format=form)
    whole = [chunk async for chunk in chat.astream("Who?")]
    for pieces in (list(chat.stream("Who?")), whole):
        assert json.loads("".join(piece.content for piece in pieces)) == {"name": "Ada"}
        assert "age" in str(pieces[-1].response_metadata["warnings"])
        assert pieces[-1].chunk_position == "last"
        assert len([piece for piece in pieces if piece.usage_metadata]) == 1
    assert len(together.requests) == 2


def test_a_broken_server_is_no_matter_of_form(chat_over, together):
    """Where the last one asked failed otherwise, that failure is raised."""
    local = FakeBackend("local", side="local", answers=[Completion("No.")])
    cloud = FakeBackend("cloud", side="cloud", answers=[ServerError("It is down.")])
    with Client(local=local, cloud=cloud) as client:
        runnable = ChatAideon(client=client, max_retries=None).with_structured_output(Person)
        with pytest.raises(Exception, match="It is down"):
            runnable.invoke("Who?")


def test_words_around_the_json_are_left_out(chat_over):
    """A message that stands for JSON is JSON, so that every parser can read it."""
    local = FakeBackend(
        "local", side="local", answers=[Completion(f"Sure: {json.dumps(ADA)} There.")]
    )
    with Client(local=local, cloud=None) as client:
        answer = ChatAideon(client=client).with_structured_output(Person, include_raw=True)
        raw = answer.invoke("Who?")["raw"]
    assert json.loads(raw.content) == ADA


async def test_a_form_may_be_given_to_a_call(chat_over, together):
    """response_format of a call takes OpenAI's object or a class, and the answer is its JSON."""
    together.script.json(ADA, ADA)
    chat = chat_over()
    form = {"type": "json_schema", "json_schema": {"name": "Human", "schema": SCHEMA}}
    assert json.loads(chat.invoke("Who?", response_format=form).content) == ADA
    assert json.loads((await chat.ainvoke("Who?", response_format=Person)).content) == ADA
    sent = [request.body["response_format"]["json_schema"] for request in together.requests]
    assert [each["name"] for each in sent] == ["Human", "Person"]


def test_a_text_that_a_regex_matches_stays_as_it_is(chat_over, together):
    """An output_type of the core may be given too; its answer is not made JSON."""
    together.script.say("2024-05-01")
    answer = chat_over().invoke("When?", output_type=re.compile(r"\d{4}-\d\d-\d\d"))
    assert answer.content == "2024-05-01"


def test_where_everybody_answers_in_another_form_the_last_answer_is_kept():
    """After a fallback too, an answer that cannot be read is parsed, not lost."""
    local = FakeBackend("local", side="local", answers=[Completion("{}")])
    cloud = FakeBackend("cloud", side="cloud", answers=[Completion('{"name": "Ada"}')])
    with Client(local=local, cloud=cloud) as client:
        runnable = ChatAideon(client=client).with_structured_output(Person, include_raw=True)
        answer = runnable.invoke("Who?")
    assert answer["raw"].content == '{"name": "Ada"}'
    assert isinstance(answer["parsing_error"], OutputParserException)


@pytest.mark.parametrize("method", METHODS)
async def test_dicts_grow_in_a_stream(chat_over, together, method):
    """A streamed dict shows what has come so far, and ends with all of it."""
    value = {"name": "Ada Lovelace of London", "age": 36}
    says(together, method, value)
    says(together, method, value)
    runnable = chat_over().with_structured_output(SCHEMA, method=method)
    for parts in (
        list(runnable.stream("Who? JSON.")),
        [part async for part in runnable.astream("Who? JSON.")],
    ):
        assert parts[-1] == value
        assert all(isinstance(part, dict) for part in parts)
        if method != "function_calling":
            assert len(parts) > 2
            names = [part["name"] for part in parts if "name" in part]
            assert names == sorted(names, key=len)


@pytest.mark.parametrize("method", METHODS)
def test_instances_are_streamed_once_they_are_whole(chat_over, together, method):
    """A stream of a class gives one instance, never half of one."""
    value = {"name": "Ada Lovelace of London", "age": 36}
    says(together, method, value)
    runnable = chat_over().with_structured_output(Person, method=method)
    assert list(runnable.stream("Who? JSON.")) == [Person(**value)]


@pytest.mark.parametrize("method", METHODS)
def test_a_run_starts_the_model_once_and_tells_of_the_form(chat_over, together, method):
    """Callbacks see one model run and the schema, even where an answer was repaired."""
    if method == "json_schema":
        together.script.json({"name": "Ada"})
    says(together, method, ADA)
    starts = Starts()
    runnable = chat_over().with_structured_output(Person, method=method)
    runnable.invoke("Who? JSON.", {"callbacks": [starts]})
    (options,) = starts.options
    told = options["ls_structured_output_format"]
    assert told["kwargs"]["method"] == method
    assert told["schema"]["title"] == "Person"


def test_a_model_may_call_a_tool_instead(chat_over, together):
    """With tools, an answer is either a call, which parses to None, or of the form."""
    together.script.call("weather", city="Oslo")
    together.script.json(ADA)
    runnable = chat_over().with_structured_output(Person, tools=[weather], include_raw=True)
    first, second = runnable.invoke("Weather?"), runnable.invoke("Who?")
    assert first["raw"].tool_calls[0]["name"] == "weather"
    assert (first["parsed"], first["parsing_error"]) == (None, None)
    assert second["parsed"] == Person(**ADA)


def test_a_call_with_garbled_arguments_is_an_error(chat_over, together):
    """Arguments that are no JSON are told of, not passed over."""
    together.script.reply(Reply(tool_calls=(ToolCall("c1", "Person", '{"name": '),)))
    runnable = chat_over().with_structured_output(Person, method="function_calling")
    with pytest.raises(OutputParserException, match="Person"):
        runnable.invoke("Who?")


@pytest.mark.parametrize(
    ("schema", "arguments"),
    [
        (Person, {"method": "xml"}),
        (Person, {"method": "json_mode", "strict": True}),
        (Person, {"method": "function_calling", "tools": [weather]}),
        (Person, {"temprature": 0}),
        ("Person", {}),
        ({"title": "names", "type": "array"}, {"method": "function_calling"}),
    ],
)
def test_what_makes_no_sense_is_refused(chat_over, schema, arguments):
    """A wrong method, schema or argument is an error before anything is sent."""
    with pytest.raises(ValueError, match=r"method|strict|tools|unsupported|schema"):
        chat_over().with_structured_output(schema, **arguments)


@pytest.mark.parametrize("method", ["json_schema", "function_calling"])
def test_a_title_is_made_a_name(chat_over, together, method):
    """A schema's title may be any text; on the wire it is a name that servers take."""
    schema = SCHEMA | {"title": "A person, perhaps?"}
    says(together, method, ADA, {"title": "A_person_perhaps"})
    assert chat_over().with_structured_output(schema, method=method).invoke("Who?") == ADA
    assert '"name": "A_person_perhaps"' in json.dumps(together.requests[0].body)


@pytest.mark.parametrize("method", METHODS)
def test_strict_classes_read_json(chat_over, together, method):
    """A class that takes no text for a date takes JSON's, which knows no other dates."""

    class Birth(BaseModel, strict=True):
        day: date

    says(together, method, {"day": "1815-12-10"}, Birth)
    runnable = chat_over().with_structured_output(Birth, method=method)
    assert runnable.invoke("When? JSON.") == Birth(day=date(1815, 12, 10))


def test_any_json_schema_will_do(chat_over, together):
    """A schema of a list, which no tool could take, is read by json_schema."""
    together.script.json(["Ada", "Grace"])
    schema = {"title": "names", "type": "array", "items": {"type": "string"}}
    assert chat_over().with_structured_output(schema).invoke("Who?") == ["Ada", "Grace"]


@pytest.mark.parametrize(
    ("schema", "answer", "value"),
    [
        (list[Person], [ADA], [Person(**ADA)]),
        (Person | None, None, None),
        (Literal["yes", "no"], "no", "no"),
        (Colour, "red", Colour.RED),
        (int, 7, 7),
    ],
)
def test_any_type_that_pydantic_reads_will_do(chat_over, together, schema, answer, value):
    """Lists, unions, choices and enums are held to their schema and read as what they are."""
    together.script.json(answer)
    assert chat_over().with_structured_output(schema).invoke("Who?") == value
    assert "json_schema" in together.requests[0].body["response_format"]
    with pytest.raises(ValueError, match="no tool can take it"):
        chat_over().with_structured_output(schema, method="function_calling")


@pytest.mark.parametrize("schema", [Person(**ADA), "Person", None, [Person], says])
def test_what_is_no_type_is_refused_by_name(chat_over, schema):
    """The error says what was given and what is taken."""
    with pytest.raises(ValueError, match=r"has to be a class, a TypedDict, a JSON Schema"):
        chat_over().with_structured_output(schema)


@pytest.mark.parametrize("strict", [None, True])
@pytest.mark.parametrize("method", ["json_schema", "function_calling"])
@pytest.mark.parametrize("schema", [Tree, Tree.model_json_schema()])
def test_a_class_may_hold_itself(chat_over, together, schema, method, strict):
    """A recursive class or schema is asked for by every method, with what it holds described."""
    says(together, method, TREE, Tree if schema is Tree else {"title": "Tree"})
    runnable = chat_over().with_structured_output(schema, method=method, strict=strict)
    assert runnable.invoke("What?") == (Tree(**TREE) if schema is Tree else TREE)
    assert '{"$ref": "#/$defs/Tree"}' in json.dumps(together.requests[0].body)


@pytest.mark.parametrize("method", ["json_schema", "function_calling"])
def test_a_total_false_dict_may_lack_keys(chat_over, together, method):
    """Keys that a TypedDict does without are not asked for, nor is dict's docstring sent."""
    says(together, method, {"name": "Ada"}, PersonHalf)
    runnable = chat_over().with_structured_output(PersonHalf, method=method)
    assert runnable.invoke("Who?") == {"name": "Ada"}
    assert len(together.requests) == 1
    assert "new empty dictionary" not in json.dumps(together.requests[0].body)


@pytest.mark.parametrize("method", ["json_schema", "function_calling"])
@pytest.mark.parametrize(
    "schema",
    [
        {"type": "json_schema", "json_schema": {"name": "Person", "schema": UNTITLED}},
        {"name": "Person", "schema": UNTITLED, "strict": True},
        {"name": "Person", **UNTITLED},
    ],
)
def test_a_schema_may_come_in_openais_wrapping(chat_over, together, schema, method):
    """What ChatOpenAI takes as a response_format is read as the schema in it."""
    says(together, method, ADA, {"title": "Person"})
    assert chat_over().with_structured_output(schema, method=method).invoke("Who?") == ADA
    sent = json.dumps(together.requests[0].body)
    assert '"name": "Person"' in sent
    assert '"required": ["name", "age"]' in sent


@pytest.mark.parametrize("schema", [Person, SCHEMA])
@pytest.mark.parametrize("method", ["json_schema", "json_mode"])
async def test_a_stream_with_the_message_raises_nothing(chat_over, together, schema, method):
    """With include_raw a stream passes the message on in pieces, and ends with what is wrong."""
    together.script.say(*["I cannot do that."] * 2)
    runnable = chat_over().with_structured_output(schema, method=method, include_raw=True)
    pieces = list(runnable.stream("Who, as JSON?"))
    assert "".join(piece["raw"].content for piece in pieces[:-1]) == "I cannot do that."
    assert len([piece for piece in pieces if piece.get("raw")]) > 1
    assert pieces[-1]["parsed"] is None
    assert isinstance(pieces[-1]["parsing_error"], OutputParserException)
    last = [piece async for piece in runnable.astream("Who, as JSON?")][-1]
    assert isinstance(last["parsing_error"], OutputParserException)


def test_an_agent_holds_the_model_to_its_response_format(chat_over, together):
    """create_agent takes the provider's own structured output, with tools and with none."""
    together.script.json(ADA)
    agent = create_agent(chat_over(), response_format=Person)
    state = agent.invoke({"messages": [("user", "Who?")]})
    assert state["structured_response"] == Person(**ADA)
    assert together.requests[0].body["response_format"]["type"] == "json_schema"
    assert "tools" not in together.requests[0].body


def test_an_agent_may_have_its_form_as_a_tool(chat_over, together):
    """Where the profile says no, create_agent asks for the form by a forced call."""
    together.script.call("Person", **ADA)
    agent = create_agent(chat_over(profile={"structured_output": False}), response_format=Person)
    state = agent.invoke({"messages": [("user", "Who?")]})
    assert state["structured_response"] == Person(**ADA)
    assert together.requests[0].body["tool_choice"] == "required"


async def test_an_agent_calls_tools_before_it_answers_in_its_form(chat_over, together):
    """With tools, the model may call them first; what it says at last has the form."""
    together.script.call("weather", city="Oslo")
    together.script.json(ADA)
    agent = create_agent(chat_over(), tools=[weather], response_format=Person)
    state = await agent.ainvoke({"messages": [("user", "Who?")]})
    assert state["structured_response"] == Person(**ADA)
    called, answered = (request.body for request in together.requests)
    assert [each["function"]["name"] for each in called["tools"]] == ["weather"]
    assert answered["messages"][-1]["content"] == "Rain in Oslo."


def test_usage_of_a_repair_is_counted(chat_over):
    """The tokens of both answers are the tokens of the run."""
    local = FakeBackend(
        "local",
        side="local",
        answers=[
            Completion('{"name": "Ada"}', usage=Usage(10, 5)),
            Completion(json.dumps(ADA), usage=Usage(20, 6)),
        ],
    )
    with Client(local=local, cloud=None) as client:
        runnable = ChatAideon(client=client).with_structured_output(Person, include_raw=True)
        assert runnable.invoke("Who?")["raw"].usage_metadata["total_tokens"] == 41
