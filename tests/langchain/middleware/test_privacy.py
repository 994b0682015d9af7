"""PrivacyMiddleware: what is private is read by local models alone."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import (
    AgentMiddleware,
    HumanInTheLoopMiddleware,
    LLMToolSelectorMiddleware,
    ModelFallbackMiddleware,
    SummarizationMiddleware,
    ToolRetryMiddleware,
    wrap_model_call,
)
from langchain.agents.structured_output import ToolStrategy
from langchain_core.language_models import FakeListChatModel, FakeListLLM
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.types import Command
from pydantic import BaseModel

from aideon_core import Completion, ToolCall
from aideon_core.errors import ConfigError
from aideon_testing import Reply
from langchain_aideon.middleware import (
    AideonRoutingMiddleware,
    BudgetMiddleware,
    Choice,
    PrivacyMiddleware,
    after_tools,
    first_step,
    guard,
)
from langchain_aideon.middleware.labels import privately, strictest
from langchain_aideon.router import AideonRouter

ASK = {"messages": [("user", "What is in my mail?")]}
THREAD = {"configurable": {"thread_id": "1"}, "recursion_limit": 20}


@tool
def weather(city: str) -> str:
    """Tell the weather in a city."""
    return f"Rain in {city}."


@tool
def read_mail(folder: str) -> str:
    """Read the user's mail."""
    return f"SECRET letter in {folder}."


def sent(together):
    """Everything that reached the cloud, as text."""
    return " ".join(str(request.body) for request in together.requests)


async def test_a_private_input_is_read_here(hybrid, together, run):
    """What the caller says is private never reaches the cloud, whatever the model's policy."""
    chat, local = hybrid(policy="cloud-only")
    agent = create_agent(chat, middleware=[PrivacyMiddleware()])
    said = await run(agent, ASK | {"privacy": "private"})
    assert said["messages"][-1].content == "Here."
    assert said["messages"][-1].response_metadata["route"]["policy"] == "local-only"
    assert said["privacy"] == "private"
    assert (together.requests, len(local.requests)) == ([], 1)


async def test_what_is_public_goes_where_it_went(hybrid, together, run):
    """A conversation without the label is answered by the model's own policy."""
    chat, local = hybrid()
    said = await run(create_agent(chat, middleware=[PrivacyMiddleware()]), ASK)
    assert "privacy" not in said
    assert (len(together.requests), local.requests) == (1, [])


@dataclass
class Context:
    """A caller's runtime context."""

    privacy: str = "public"


@pytest.mark.parametrize("kind", [Context, dict])
async def test_the_runtime_context_says_so(hybrid, together, run, kind):
    """A runtime context that has the label makes the conversation private, and it stays so."""
    chat, _ = hybrid()
    agent = create_agent(
        chat, middleware=[PrivacyMiddleware()], context_schema=kind, checkpointer=InMemorySaver()
    )
    await run(agent, ASK, THREAD, context=kind(privacy="private"))
    await run(agent, ASK, THREAD, context=kind(privacy="public"))
    assert together.requests == []


async def test_a_marked_message_is_private(hybrid, together, run):
    """A message that says so of itself makes the conversation private."""
    chat, _ = hybrid()
    message = HumanMessage("My diary.", additional_kwargs={"privacy": "private"})
    said = await run(create_agent(chat, middleware=[PrivacyMiddleware()]), {"messages": [message]})
    assert (said["privacy"], together.requests) == ("private", [])


async def test_results_of_private_tools_stay_here(hybrid, together, run):
    """The step that reads a private tool's result is local, with tools called at once too."""
    chat, local = hybrid(Completion(text="A letter."))
    both = [
        ToolCall("call_w", "weather", '{"city": "Oslo"}'),
        ToolCall("call_m", "read_mail", '{"folder": "inbox"}'),
    ]
    together.script.reply(Reply(tool_calls=tuple(both)))
    agent = create_agent(
        chat, [weather, read_mail], middleware=[PrivacyMiddleware(private_tools={"read_mail"})]
    )
    said = await run(agent, ASK)
    assert said["messages"][-1].content == "A letter."
    assert "SECRET" in str(local.requests[0].messages)
    assert (len(together.requests), "SECRET" in sent(together)) == (1, False)
    assert said["privacy"] == "private"


@tool(response_format="content_and_artifact")
def by_artifact(folder: str):
    """Read the user's mail."""
    return f"SECRET in {folder}", {"privacy": "private"}


@tool
def by_command(folder: str):
    """Read the user's mail."""
    return Command(
        update={"messages": [ToolMessage("SECRET", tool_call_id="call_x")], "privacy": "private"}
    )


@tool
def by_message(folder: str):
    """Read the user's mail."""
    return ToolMessage("SECRET", tool_call_id="call_x", additional_kwargs={"privacy": "private"})


@pytest.mark.parametrize("reader", [by_artifact, by_command, by_message])
async def test_a_tool_says_so_itself(hybrid, together, run, reader):
    """A tool labels its result by its artifact, its message or its Command."""
    chat, local = hybrid(Completion(text="A letter."))
    call = ToolCall("call_x", reader.name, '{"folder": "inbox"}')
    together.script.reply(Reply(tool_calls=(call,)))
    agent = create_agent(chat, [reader], middleware=[PrivacyMiddleware()])
    said = await run(agent, ASK)
    assert said["privacy"] == "private"
    assert (len(together.requests), len(local.requests)) == (1, 1)


async def test_a_detector_finds_what_is_private(hybrid, together, run):
    """A detector reads every message before a model does, and its finding stays."""
    chat, _ = hybrid()

    def has_number(messages):
        return any("4111" in m.text for m in messages)

    agent = create_agent(
        chat, middleware=[PrivacyMiddleware(detector=has_number)], checkpointer=InMemorySaver()
    )
    await run(agent, {"messages": [("user", "Hello")]}, THREAD)
    await run(agent, {"messages": [("user", "My card is 4111.")]}, THREAD)
    await run(agent, {"messages": [("user", "Thanks")]}, THREAD)
    assert (len(together.requests), "4111" in sent(together)) == (1, False)


async def test_an_async_detector_is_awaited(hybrid, together):
    """An async detector serves an async agent; a blocking one says that it cannot."""
    chat, _ = hybrid()

    async def always(messages):
        return True

    agent = create_agent(chat, middleware=[PrivacyMiddleware(detector=always)])
    await agent.ainvoke(ASK)
    with pytest.raises(ConfigError, match="Call ainvoke or astream"):
        agent.invoke(ASK)
    assert together.requests == []


async def test_the_system_prompt_is_read_by_the_detector(hybrid, together, run):
    """What only the model call shows, such as the system's prompt, is looked at too."""
    chat, _ = hybrid()
    agent = create_agent(
        chat,
        system_prompt="The patient is Ada.",
        middleware=[PrivacyMiddleware(detector=lambda ms: any("patient" in m.text for m in ms))],
    )
    assert (await run(agent, ASK))["privacy"] == "private"
    assert together.requests == []


async def test_no_local_side_is_an_error_before_anything_is_sent(hybrid, together, run):
    """Without a local side a private conversation fails, and nothing is sent."""
    chat, _ = hybrid(sides=("cloud",), policy="cloud-only")
    agent = create_agent(chat, middleware=[PrivacyMiddleware()])
    with pytest.raises(ConfigError, match=r"has no local side.*Nothing was sent\..*local="):
        await run(agent, ASK | {"privacy": "private"})
    assert together.requests == []


async def test_a_label_that_is_none_is_refused(hybrid, together, run):
    """A mistyped label is an error, not a public conversation."""
    chat, _ = hybrid()
    agent = create_agent(chat, middleware=[PrivacyMiddleware()])
    with pytest.raises(ConfigError, match="privacy is 'secret'"):
        await run(agent, ASK | {"privacy": "secret"})
    assert together.requests == []
    with pytest.raises(ConfigError, match="a set of names"):
        PrivacyMiddleware(private_tools="read_mail")


async def test_private_never_becomes_public(hybrid, together, run):
    """Neither a later input nor an update of the state makes a thread public again."""
    chat, _ = hybrid()
    agent = create_agent(chat, middleware=[PrivacyMiddleware()], checkpointer=InMemorySaver())
    await run(agent, ASK | {"privacy": "private"}, THREAD)
    await run(agent, ASK | {"privacy": "public"}, THREAD)
    agent.update_state(THREAD, {"privacy": "public"})
    await run(agent, ASK, THREAD)
    assert together.requests == []
    await run(agent, ASK, {"configurable": {"thread_id": "2"}})
    assert len(together.requests) == 1


def test_the_label_is_kept_over_an_interrupt(hybrid, together):
    """An agent that is stopped between a private tool and the model goes on privately."""
    saver = InMemorySaver()
    together.script.call("read_mail", folder="inbox")
    for names in ({"read_mail"}, set()):
        chat, _ = hybrid()
        agent = create_agent(
            chat,
            [read_mail],
            middleware=[PrivacyMiddleware(private_tools=names)],
            checkpointer=saver,
            interrupt_after=["tools"] if names else None,
        )
        agent.invoke(ASK if names else None, THREAD)
        assert agent.get_state(THREAD).values["privacy"] == "private"
    assert (len(together.requests), "SECRET" in sent(together)) == (1, False)


def test_a_human_who_edits_a_call_does_not_lose_the_label(hybrid, together):
    """A private tool that a human let run, or refused, leaves the conversation private."""
    for decision in ({"type": "approve"}, {"type": "reject", "message": "No, SECRET."}):
        together.script.call("read_mail", folder="inbox")
        chat, local = hybrid(Completion(text="A letter."))
        agent = create_agent(
            chat,
            [read_mail],
            middleware=[
                HumanInTheLoopMiddleware(interrupt_on={"read_mail": True}),
                PrivacyMiddleware(private_tools={"read_mail"}),
            ],
            checkpointer=InMemorySaver(),
        )
        agent.invoke(ASK, THREAD)
        agent.invoke(Command(resume={"decisions": [decision]}), THREAD)
        assert len(local.requests) == 1
    assert (len(together.requests), "SECRET" in sent(together)) == (2, False)


def test_errors_of_private_tools_are_private(hybrid, together):
    """What a failed private tool says is read here, even where a retry outside made it."""

    @tool
    def broken(folder: str) -> str:
        """Read the user's mail."""
        raise ValueError(f"SECRET in {folder}")

    together.script.call("broken", folder="inbox")
    chat, local = hybrid()
    retry = ToolRetryMiddleware(max_retries=0, on_failure="continue")
    agent = create_agent(
        chat, [broken], middleware=[retry, PrivacyMiddleware(private_tools=[broken])]
    )
    assert agent.invoke(ASK)["privacy"] == "private"
    assert "SECRET" in str(local.requests[0].messages)
    assert "SECRET" not in sent(together)


async def test_errors_of_private_agents_in_tools_are_private(hybrid, together, run):
    """A tool that failed after its agent became private leaves its error here, for every hook."""
    inner, _ = hybrid()
    summarizer, _ = hybrid()
    chat, local = hybrid()
    secretary = create_agent(inner, middleware=[PrivacyMiddleware()])

    @tool
    def ask_secretary(question: str) -> str:
        """Ask the secretary."""
        secretary.invoke({"messages": question, "privacy": "private"})
        raise ValueError("SECRET letter.")

    class Summary(AgentMiddleware):
        def before_model(self, state, runtime):
            if isinstance(state["messages"][-1], ToolMessage):
                summarizer.invoke(state["messages"])

    retry = ToolRetryMiddleware(max_retries=0, on_failure="continue")
    for extra in ([], [Summary()]):
        together.script.call("ask_secretary", question="What is in my mail?")
        agent = create_agent(chat, [ask_secretary], middleware=[retry, *extra, PrivacyMiddleware()])
        if extra:
            with pytest.raises(ConfigError, match="Nothing was sent"):
                await run(agent, ASK)
        else:
            assert (await run(agent, ASK))["privacy"] == "private"
            assert "SECRET" in str(local.requests[-1].messages)
    assert "SECRET" not in sent(together)


@pytest.mark.parametrize("how", ["a message", "the context"])
@pytest.mark.parametrize("hook", ["before_agent", "before_model", "wrap_model_call"])
def test_no_hook_listed_before_it_asks_the_cloud(hybrid, together, hook, how):
    """What is private by a message or the context is so for middleware that comes first, too."""
    chat, _ = hybrid()
    other, _ = hybrid()

    def before(_self, state, runtime):
        other.invoke(state["messages"])

    def around(_self, request, handler):
        other.invoke(request.messages)
        return handler(request)

    said = {hook: before if hook.startswith("before") else around}
    first = type("First", (AgentMiddleware,), said)
    agent = create_agent(chat, middleware=[first(), PrivacyMiddleware()], context_schema=Context)
    kwargs = {"privacy": "private"} if how == "a message" else {}
    message = HumanMessage("SECRET", additional_kwargs=kwargs)
    context = Context("private" if how == "the context" else "public")
    with pytest.raises(ConfigError, match="Nothing was sent"):
        agent.invoke({"messages": [message]}, context=context)
    assert together.requests == []


def test_every_later_step_and_structured_call_is_private(hybrid, together, calls):
    """Answers of a form, their repair and all steps that follow stay here."""

    class Mail(BaseModel):
        sender: str

    chat, local = hybrid(
        calls(("weather", {"city": "Oslo"})),
        calls(("Mail", {"wrong": 1})),
        calls(("Mail", {"sender": "Ada"})),
    )
    agent = create_agent(
        chat, [weather], middleware=[PrivacyMiddleware()], response_format=ToolStrategy(Mail)
    )
    said = agent.invoke(ASK | {"privacy": "private"})
    assert said["structured_response"] == Mail(sender="Ada")
    assert (len(local.requests), together.requests) == (3, [])


@pytest.mark.parametrize("mode", ["messages", "updates", "values", "debug"])
async def test_streams_are_private(hybrid, together, mode):
    """Every way of streaming an agent keeps what is private here."""
    chat, local = hybrid(policy="cloud-only", streaming=True)
    agent = create_agent(chat, middleware=[PrivacyMiddleware()])
    given = ASK | {"privacy": "private"}
    assert list(agent.stream(given, stream_mode=mode))
    assert [item async for item in agent.astream(given, stream_mode=mode)]
    assert (len(local.requests), together.requests) == (2, [])


@pytest.mark.parametrize("last", [True, False])
def test_routing_and_budget_leave_a_private_step_alone(hybrid, together, last):
    """Aideon's own middleware keep a private step local in whatever order they are listed."""
    chat, local = hybrid(max_tokens=10)
    others = [
        AideonRoutingMiddleware({first_step: "cloud-only", after_tools: "cloud-only"}),
        BudgetMiddleware("0 USD", "raise"),
    ]
    privacy = [PrivacyMiddleware()]
    agent = create_agent(chat, middleware=[*others, *privacy] if last else [*privacy, *others])
    agent.invoke(ASK | {"privacy": "private"})
    assert (len(local.requests), together.requests) == (1, [])


def test_a_model_asked_for_by_name_is_forgotten(hybrid, together):
    """A cloud model that routing chose is not asked once the conversation is private."""
    chat, local = hybrid()
    choice = Choice("cloud-only", model="openai/gpt-oss-20b")
    agent = create_agent(
        chat, middleware=[AideonRoutingMiddleware({first_step: choice}), PrivacyMiddleware()]
    )
    agent.invoke(ASK | {"privacy": "private"})
    assert (len(local.requests), together.requests) == (1, [])


def widened(request, handler):
    """A user's own middleware that sets what it likes."""
    return handler(request.override(model_settings={"policy": "cloud-only"}))


def dropped(request, handler):
    """A user's own middleware that forgets what was set."""
    return handler(request.override(model_settings={}))


@pytest.mark.parametrize("careless", [widened, dropped])
def test_careless_middleware_after_it_is_refused(hybrid, together, careless):
    """Middleware that undoes the choice makes the call fail before anything is sent."""
    chat, local = hybrid()
    agent = create_agent(chat, middleware=[PrivacyMiddleware(), wrap_model_call(careless)])
    with pytest.raises(ConfigError, match="Put PrivacyMiddleware last"):
        agent.invoke(ASK | {"privacy": "private"})
    assert (local.requests, together.requests) == ([], [])


async def test_a_fallback_to_another_model_is_refused(hybrid, together, run):
    """A fallback listed after it asks no model that is not local-only."""
    chat, _ = hybrid(ConfigError("No."))
    fallback = FakeListChatModel(responses=["From afar."])
    agent = create_agent(chat, middleware=[PrivacyMiddleware(), ModelFallbackMiddleware(fallback)])
    with pytest.raises(ConfigError, match="fake-list-chat-model.*Nothing was sent"):
        await run(agent, ASK | {"privacy": "private"})


@pytest.mark.parametrize("first", [True, False])
def test_summaries_in_the_cloud_are_refused(hybrid, together, monkeypatch, first):
    """A middleware's own model is refused while private, and one that is local-only serves."""
    # LangChain's summaries are tried again after any error, a refusal too.
    monkeypatch.setattr("tenacity.nap.time.sleep", lambda seconds: None)
    cloud, _ = hybrid()
    here, summaries = hybrid(policy="local-only")
    chat, _ = hybrid()
    together.script.call("read_mail", folder="inbox")

    def agent_with(model):
        both = [
            PrivacyMiddleware(private_tools=[read_mail]),
            SummarizationMiddleware(model, trigger=("messages", 3), keep=("messages", 1)),
        ]
        return create_agent(chat, [read_mail], middleware=both if first else both[::-1])

    with pytest.raises(ConfigError, match="Nothing was sent"):
        agent_with(cloud).invoke(ASK)
    assert len(together.requests) == 1
    together.script.call("read_mail", folder="inbox")
    agent_with(here).invoke(ASK)
    assert (len(together.requests), len(summaries.requests)) == (2, 1)
    assert "SECRET" not in sent(together)


async def test_a_selection_of_tools_in_the_cloud_is_refused(hybrid, together, run):
    """A model that selects tools is refused while private, unless it is local-only."""
    cloud, _ = hybrid()
    chat, _ = hybrid()
    agent = create_agent(
        chat, [weather], middleware=[PrivacyMiddleware(), LLMToolSelectorMiddleware(model=cloud)]
    )
    with pytest.raises(ConfigError, match="Nothing was sent"):
        await run(agent, ASK | {"privacy": "private"})
    assert together.requests == []


async def test_agents_in_tools_share_the_label(hybrid, together, run, calls):
    """An agent inside a tool is private where the outer one is, and tells when it becomes so."""
    inner_chat, inner_local = hybrid(
        calls(("read_mail", {"folder": "inbox"})), Completion(text="SECRET letter.")
    )
    inner = create_agent(
        inner_chat, [read_mail], middleware=[PrivacyMiddleware(private_tools=[read_mail])]
    )

    @tool
    def secretary(task: str) -> str:
        """Ask the secretary."""
        return inner.invoke({"messages": [("user", task)]})["messages"][-1].text

    chat, _ = hybrid(calls(("secretary", {"task": "Read."})), Completion(text="A letter."))
    agent = create_agent(chat, [secretary], middleware=[PrivacyMiddleware()])
    await run(agent, ASK | {"privacy": "private"})
    assert (together.requests, len(inner_local.requests)) == ([], 2)

    chat, local = hybrid(Completion(text="A letter."))
    agent = create_agent(chat, [secretary], middleware=[PrivacyMiddleware()])
    together.script.call("secretary", task="Read.")
    together.script.call("read_mail", folder="inbox")
    said = await run(agent, ASK)
    assert said["privacy"] == "private"
    assert (len(together.requests), "SECRET" in sent(together), len(local.requests)) == (
        2,
        False,
        1,
    )


def test_a_tool_that_asks_a_cloud_model_is_refused(hybrid, together, calls):
    """While private, a tool cannot ask a model that is not local-only."""
    other, _ = hybrid()
    chat, _ = hybrid(calls(("ask", {"text": "SECRET"})))

    @tool
    def ask(text: str) -> str:
        """Ask an expert."""
        return other.invoke(text).text

    @tool
    def complete(text: str) -> str:
        """Complete a text."""
        return FakeListLLM(responses=["..."]).invoke(text)

    agent = create_agent(chat, [ask], middleware=[PrivacyMiddleware()])
    with pytest.raises(ConfigError, match="Nothing was sent"):
        agent.invoke(ASK | {"privacy": "private"})
    chat, _ = hybrid(calls(("complete", {"text": "SECRET"})))
    agent = create_agent(chat, [complete], middleware=[PrivacyMiddleware()])
    with pytest.raises(ConfigError, match="fake-list"):
        agent.invoke(ASK | {"privacy": "private"})
    assert together.requests == []


def test_a_graph_hands_the_label_on_by_its_state(hybrid, together):
    """A graph around an agent that shares the key privacy shares the label; others do not."""

    class Shared(MessagesState):
        privacy: str

    for schema, cloud_calls in ((Shared, 0), (MessagesState, 1)):
        chat, _ = hybrid()
        agent = create_agent(chat, middleware=[PrivacyMiddleware()])
        graph = StateGraph(schema).add_node("agent", agent)
        graph = graph.add_edge(START, "agent").add_edge("agent", END).compile()
        before = len(together.requests)
        graph.invoke(ASK | {"privacy": "private"})
        assert len(together.requests) - before == cloud_calls


def test_an_agent_called_in_a_private_node_is_private(hybrid, together):
    """An agent that a node calls by itself has the label of the node's state."""

    class Shared(MessagesState):
        privacy: str

    chat, local = hybrid()
    agent = create_agent(chat, middleware=[PrivacyMiddleware()])

    def ask(state):
        return {"messages": agent.invoke({"messages": state["messages"]})["messages"]}

    graph = StateGraph(Shared).add_node("ask", ask)
    graph = graph.add_edge(START, "ask").add_edge("ask", END).compile()
    graph.invoke(ASK | {"privacy": "private"})
    assert (len(local.requests), together.requests) == (1, [])


class Judge(AgentMiddleware):
    """A user's own middleware that has a model of its own read what a step gave."""

    def __init__(self, model):
        self._model = model

    def wrap_tool_call(self, request, handler):
        return self._judged(handler(request))

    async def awrap_tool_call(self, request, handler):
        return self._judged(await handler(request))

    def wrap_model_call(self, request, handler):
        return self._judged(handler(request))

    async def awrap_model_call(self, request, handler):
        return self._judged(await handler(request))

    def _judged(self, result):
        if "SECRET" in str(result):
            self._model.invoke(str(result))
        return result


async def test_what_a_step_gave_is_private_at_once(hybrid, together, run):
    """Middleware around the step that becomes private asks no cloud about what that step gave."""
    judge, _ = hybrid()
    together.script.call("read_mail", folder="inbox")
    chat, _ = hybrid()
    privacy = PrivacyMiddleware(private_tools=[read_mail])
    agent = create_agent(chat, [read_mail], middleware=[Judge(judge), privacy])
    with pytest.raises(ConfigError, match="Nothing was sent"):
        await run(agent, ASK)
    chat, _ = hybrid(Completion(text="The SECRET is out."))
    privacy = PrivacyMiddleware(detector=lambda messages: "hush" in str(messages))
    agent = create_agent(chat, system_prompt="hush", middleware=[Judge(judge), privacy])
    with pytest.raises(ConfigError, match="Nothing was sent"):
        await run(agent, ASK)
    assert "SECRET" not in sent(together)
    assert not guard._GUARD._private


class Modelled(BaseModel):
    """A graph's state as pydantic has it."""

    messages: list[Any]
    privacy: str = "public"


@dataclass
class Listed:
    """A graph's state as a dataclass."""

    messages: list[Any]
    privacy: str = "public"


@pytest.mark.parametrize("kind", [Modelled, Listed])
def test_states_of_every_kind_have_the_label(hybrid, together, kind):
    """A graph whose state is an instance of a class keeps the label as one with a dict does."""
    chat, _ = hybrid()

    def ask(state):
        return {"messages": [chat.invoke(state.messages)]}

    graph = StateGraph(kind).add_node("ask", ask)
    graph = graph.add_edge(START, "ask").add_edge("ask", END).compile()
    with pytest.raises(ConfigError, match="Nothing was sent"):
        graph.invoke({"messages": [HumanMessage("SECRET")], "privacy": "private"})
    assert together.requests == []
    graph.invoke({"messages": [HumanMessage("Hello.")]})
    assert len(together.requests) == 1


def test_private_and_public_runs_do_not_mix(hybrid, together):
    """Runs at the same time are each as private as they are, in threads."""
    chat, _ = hybrid()
    agent = create_agent(chat, middleware=[PrivacyMiddleware()])

    def side(private):
        said = agent.invoke(ASK | ({"privacy": "private"} if private else {}))
        return said["messages"][-1].response_metadata["route"]["side"]

    with ThreadPoolExecutor(8) as pool:
        sides = list(pool.map(side, [True, False] * 8))
    assert sides == ["local", "cloud"] * 8
    assert not guard._GUARD._private


async def test_private_and_public_tasks_do_not_mix(hybrid, together):
    """Runs at the same time are each as private as they are, on one event loop."""
    chat, _ = hybrid()
    agent = create_agent(chat, middleware=[PrivacyMiddleware()])
    asked = [agent.ainvoke(ASK | ({"privacy": "private"} if i % 2 else {})) for i in range(16)]
    answers = [said["messages"][-1] for said in await asyncio.gather(*asked)]
    sides = [answer.response_metadata["route"]["side"] for answer in answers]
    assert sides == ["cloud", "local"] * 8
    assert not guard._GUARD._private


def test_the_word_means_nothing_elsewhere(hybrid, together):
    """A chain with a variable of the same name asks whom it likes."""
    chat, _ = hybrid()
    prompt = ChatPromptTemplate([("user", "Define {privacy}.")])
    (prompt | chat).invoke({"privacy": "private"})
    assert len(together.requests) == 1


async def test_a_router_asks_its_own_local_models(hybrid, together, run):
    """A router over any models keeps a private conversation at those that are local."""
    cloud, _ = hybrid(sides=("cloud",))
    router = AideonRouter(
        local=FakeListChatModel(responses=["From here."]), cloud=cloud, policy="cloud-first"
    )
    agent = create_agent(router, middleware=[PrivacyMiddleware()])
    said = await run(agent, ASK | {"privacy": "private"})
    assert said["messages"][-1].content == "From here."
    assert together.requests == []
    said = await run(agent, ASK)
    assert len(together.requests) == 1


@pytest.mark.parametrize("streaming", [True, False])
def test_models_without_a_cloud_may_be_asked(hybrid, together, calls, streaming):
    """While private, a tool may ask whatever has no cloud side, by whatever policy."""
    plain, _ = hybrid(sides=("local",), policy="local-first", streaming=streaming)
    router = AideonRouter(local=FakeListChatModel(responses=["Here."]), streaming=streaming)

    @tool
    def ask(text: str) -> str:
        """Ask two experts."""
        return plain.invoke(text).text + router.invoke(text).text

    chat, local = hybrid(calls(("ask", {"text": "SECRET"})), Completion(text="Done."))
    agent = create_agent(chat, [ask], middleware=[PrivacyMiddleware()])
    agent.invoke(ASK | {"privacy": "private"})
    assert local.requests[1].messages[-1].text == "Here.Here."


def test_nothing_is_remembered_of_runs_that_are_over(hybrid, together):
    """The guard over private runs holds nothing once they ended, failed ones too."""
    chat, _ = hybrid(sides=("cloud",))
    good, _ = hybrid()
    agent = create_agent(chat, middleware=[PrivacyMiddleware()])
    with pytest.raises(ConfigError):
        agent.invoke(ASK | {"privacy": "private"})
    create_agent(good, middleware=[PrivacyMiddleware()]).invoke(ASK | {"privacy": "private"})
    assert guard._GUARD._private == set()


def test_labels_add_up():
    """Private and public together are private, in any order, and results carry it along."""
    assert strictest("private", "public") == strictest(None, "private") == "private"
    assert strictest(None, "public") == strictest("public", None) == "public"
    message = ToolMessage("SECRET", tool_call_id="1")
    (first, second) = privately([message, Command(goto="x")])
    assert first.update["messages"][0].additional_kwargs == {"privacy": "private"}
    assert (second.goto, second.update) == ("x", {"privacy": "private"})
    with pytest.raises(ConfigError, match="Give it a dict"):
        privately(Command(update=Context()))
