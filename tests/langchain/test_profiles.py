"""The profile of a ChatAideon: what every model that may answer can do."""

from __future__ import annotations

import pickle

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import SummarizationMiddleware
from langchain_core.language_models import ModelProfile
from langchain_core.runnables import ConfigurableField

from aideon_core import Client
from aideon_core.types import ModelFacts
from aideon_testing import FakeBackend
from langchain_aideon import ChatAideon

CLOUD = "meta-llama/Llama-3.3-70B-Instruct-Turbo"
VISION = "moonshotai/Kimi-K2.6"


def over(*facts, policy="local-first", **backend):
    """A ChatAideon over a local and a cloud model of these facts."""
    sides = ("local", "cloud")
    models = [
        FakeBackend(side, side=side, model=f"{side}-model", facts=fact, **backend)
        for side, fact in zip(sides, facts, strict=True)
    ]
    return ChatAideon(client=Client(local=models[0], cloud=models[1], policy=policy))


def test_a_profile_is_what_every_model_can_do():
    """A hybrid's profile is the smaller context, and what both of its models can."""
    chat = over(
        ModelFacts(8_192, 4_096, media=False, reasoning=False),
        ModelFacts(131_072, 131_072, media=True, reasoning=True),
    )
    assert chat.profile == {
        "name": "local-model|cloud-model",
        "max_input_tokens": 8_192,
        "max_output_tokens": 4_096,
        "text_inputs": True,
        "image_inputs": False,
        "image_url_inputs": False,
        "text_outputs": True,
        "reasoning_output": False,
        "tool_calling": True,
        "tool_choice": True,
        "tool_call_streaming": True,
        "structured_output": True,
        "temperature": True,
    }
    assert chat.profile.keys() <= ModelProfile.__annotations__.keys()


@pytest.mark.parametrize(
    ("policy", "tokens"),
    [("local-first", 8_192), ("cloud-first", 8_192), ("local-only", 8_192), ("cloud-only", 65_536)],
)
def test_only_models_that_the_policy_allows_count(policy, tokens):
    """A policy of one side has that side's profile."""
    chat = over(ModelFacts(8_192), ModelFacts(65_536), policy=policy)
    assert chat.profile["max_input_tokens"] == tokens


def test_what_is_not_known_is_not_said():
    """An unknown fact leaves its key out; one known context of two is the limit."""
    chat = over(ModelFacts(8_192), ModelFacts())
    assert chat.profile["max_input_tokens"] == 8_192
    assert not {"max_output_tokens", "image_inputs", "reasoning_output"} & chat.profile.keys()
    assert "max_input_tokens" not in over(ModelFacts(), ModelFacts()).profile


def test_a_model_that_cannot_call_tools_says_so():
    """What one of the models cannot do, the profile does not promise."""
    chat = over(ModelFacts(), ModelFacts(), abilities=frozenset({"json"}))
    assert chat.profile["structured_output"] is True
    assert chat.profile["tool_calling"] is False
    assert chat.profile["image_inputs"] is False


def test_together_models_have_the_catalogues_facts(chat_over):
    """A Together model brings its context and whether it sees and thinks."""
    assert chat_over().profile["max_input_tokens"] == 131_072
    assert chat_over(cloud=VISION).profile["image_inputs"] is True
    assert chat_over(cloud=VISION).profile["reasoning_output"] is True


def test_the_context_asked_for_here_is_the_one_in_the_profile():
    """n_ctx is the context of the local model, and of the profile."""
    assert ChatAideon(policy="local-only", n_ctx=4096).profile["max_input_tokens"] == 4096


def test_a_profile_that_is_given_stays(chat_over):
    """profile= says what the model can do, in copies too."""
    given = {"max_input_tokens": 5, "structured_output": False}
    chat = chat_over(profile=given)
    assert chat.profile == given
    assert chat.model_copy(update={"cloud": VISION}).profile == given


def test_a_profile_follows_the_fields_of_a_copy(chat_over):
    """A copy, a configured model and a pickled one have the profile of their own models."""
    chat = chat_over()
    assert chat.model_copy(update={"cloud": VISION}).profile["name"] == VISION
    configurable = chat.configurable_fields(cloud=ConfigurableField(id="cloud"))
    configured, _ = configurable.prepare({"configurable": {"cloud": VISION}})
    assert configured.profile["name"] == VISION
    again = pickle.loads(pickle.dumps(chat))
    assert again.model_copy(update={"cloud": VISION}).profile["name"] == VISION


def test_an_agent_can_summarize_by_the_profile(chat_over, together):
    """A middleware that needs to know the context finds it."""
    together.script.say("Hello.")
    chat = chat_over()
    middleware = SummarizationMiddleware(chat, trigger=("fraction", 0.8), keep=("fraction", 0.3))
    agent = create_agent(chat, middleware=[middleware])
    assert agent.invoke({"messages": [("user", "Hello?")]})["messages"][-1].content == "Hello."
