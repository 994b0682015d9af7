"""AideonLLM over the loopback server and over backends that answer from memory."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest
from crewai.hooks import register_after_llm_call_hook, register_before_llm_call_hook
from crewai.hooks.llm_hooks import clear_all_llm_call_hooks
from crewai.llms.base_llm import call_stop_override
from crewai.utilities.agent_utils import is_context_length_exceeded
from pydantic import BaseModel

from aideon_core import Client, Completion, Usage
from aideon_core.errors import (
    AllBackendsFailed,
    AuthError,
    ConfigError,
    ContextTooLong,
    MissingKey,
    NotGguf,
    ServerError,
    UnknownModel,
    Unsupported,
)
from aideon_testing import Failure, FakeBackend, Reply
from crewai_aideon import AideonLLM


class Bird(BaseModel):
    """What a bird is called."""

    name: str


def test_call_answers_and_counts(llm_over, together):
    """An answer is text, and its tokens are added up by CrewAI's names."""
    together.script.reply(*[Reply("Two.", usage=Usage(7, 3, 2, 1))] * 2)
    llm = llm_over()
    assert llm.call("A prime?") == "Two."
    assert llm.call([{"role": "user", "content": "A prime?"}]) == "Two."
    used = llm.get_token_usage_summary()
    assert (used.prompt_tokens, used.completion_tokens, used.total_tokens) == (14, 6, 20)
    assert (used.cached_prompt_tokens, used.reasoning_tokens) == (4, 2)
    assert used.successful_requests == 2


async def test_acall_says_the_same(llm_over, together):
    """An awaited call answers as call does, streamed or not."""
    together.script.say("Two.", "Three.")
    assert await llm_over().acall("A prime?") == "Two."
    assert await llm_over(stream=True).acall("Another?") == "Three."


def test_parameters_reach_the_model(llm_over, together):
    """Sampling parameters and stop words are sent."""
    llm_over(temperature=0.5, max_tokens=9, top_p=0.9, seed=7, stop=["END"]).call("Count.")
    body = together.requests[0].body
    assert (body["temperature"], body["max_tokens"], body["top_p"]) == (0.5, 9, 0.9)
    assert (body["seed"], body["stop"]) == (7, ["END"])


def test_stop_words_of_the_agent_hold(llm_over, together):
    """The stop words CrewAI sets for one call end the answer, and do not stay."""
    together.script.say("Action: look\nObservation: nothing", "Observation: kept")
    llm = llm_over()
    with call_stop_override(llm, ["\nObservation:"]):
        assert llm.call("Go on.") == "Action: look"
    assert together.requests[0].body["stop"] == ["\nObservation:"]
    assert llm.call("Go on.") == "Observation: kept"
    assert llm.supports_stop_words()


def test_a_call_is_reported(llm_over, together, settled):
    """Start and end of a call are events of one call, with usage, cost and route."""
    together.script.reply(Reply("Two.", usage=Usage(7, 3)))
    llm_over().call("A prime?")
    started, completed = settled()
    assert (started.type, completed.type) == ("llm_call_started", "llm_call_completed")
    assert started.call_id == completed.call_id
    assert completed.response == "Two."
    assert completed.finish_reason == "stop"
    assert completed.usage["total_tokens"] == 10
    assert completed.usage["route"]["side"] == "cloud"
    json.dumps(completed.usage)


def test_streaming_reports_the_pieces(llm_over, together, settled):
    """With stream=True text and thoughts are events as they come, and the answer is whole."""
    together.script.reply(Reply("Two and three.", reasoning="Think."))
    llm = llm_over(stream=True)
    assert llm.call("Primes?") == "Two and three."
    events = settled()
    spoken = [event.chunk for event in events if event.type == "llm_stream_chunk"]
    thought = [event.chunk for event in events if event.type == "llm_thinking_chunk"]
    assert len(spoken) > 1
    assert "".join(spoken) == "Two and three."
    assert "".join(thought) == "Think."
    assert llm.get_token_usage_summary().successful_requests == 1


def test_a_failure_is_reported_and_raised(llm_over, together, settled):
    """A call that fails raises the core's error with its route, and is an event."""
    together.script.fail(Failure.invalid_key())
    with pytest.raises(AuthError) as caught:
        llm_over().call("Hello?")
    assert caught.value.route.attempts
    *_, failed = settled()
    assert failed.type == "llm_call_failed"
    assert "401" in failed.error


def test_an_empty_answer_is_an_error_that_says_why(llm_over, together):
    """An answer without text raises instead of giving CrewAI an empty string."""
    together.script.reply(Reply("", finish_reason="length"))
    with pytest.raises(ServerError, match=r"no text .finish reason: length") as caught:
        llm_over().call("Hello?")
    assert caught.value.route.side == "cloud"


def test_a_rate_limit_is_tried_again_by_crewai(llm_over, together):
    """CrewAI's own retry sees a 429 and asks again."""
    together.script.fail(Failure.rate_limited())
    together.script.say("Now.")
    assert llm_over().call("Hello?") == "Now."
    assert len(together.requests) == 2


def test_crewai_understands_a_prompt_that_is_too_long(llm_over, together):
    """A prompt over the context is an error CrewAI knows how to shorten."""
    together.script.fail(Failure.over_context())
    with pytest.raises(ContextTooLong, match="maximum context length") as caught:
        llm_over().call("Long.")
    assert is_context_length_exceeded(caught.value)
    assert isinstance(caught.value.__cause__, ContextTooLong)
    assert caught.value.status_code == 400
    assert caught.value.route.attempts


def test_too_long_for_one_side_is_too_long_when_the_other_is_out():
    """A prompt too long for the local model is told as that when the cloud has no key."""
    local = FakeBackend("local", side="local", answers=[ContextTooLong("9000 of 8192 tokens.")])
    cloud = FakeBackend("cloud", side="cloud", unavailable=MissingKey("There is no key."))
    with pytest.raises(ContextTooLong, match="maximum context length") as caught:
        AideonLLM(client=Client(local=local, cloud=cloud, policy="local-first")).call("Long.")
    assert isinstance(caught.value.__cause__, AllBackendsFailed)


def test_a_response_model_is_asked_for_and_filled_in(llm_over, together):
    """With a response_model the answer is a value of it, held to its schema."""
    together.script.say('{"name": "Heron"}')
    assert llm_over().call("A bird?", response_model=Bird) == Bird(name="Heron")
    shape = together.requests[0].body["response_format"]
    assert shape["type"] == "json_schema"
    assert shape["json_schema"]["schema"]["required"] == ["name"]


def test_a_side_that_cannot_hold_to_a_schema_says_so():
    """A response_model nobody can hold to is an error, not a guess."""
    plain = FakeBackend("local", side="local", abilities=frozenset())
    llm = AideonLLM(client=Client(local=plain, cloud=None, policy="local-only"))
    with pytest.raises(Unsupported, match="response format"):
        llm.call("A bird?", response_model=Bird)


def test_tools_are_used_in_text(llm_over, together):
    """Native tools are declined with the phrase that makes CrewAI describe them in text."""
    llm = llm_over()
    assert not llm.supports_function_calling()
    with pytest.raises(Unsupported, match="does not support tools"):
        llm.call("Hello?", tools=[{"type": "function", "function": {"name": "look"}}])
    assert not together.requests


def test_hooks_see_and_change_a_call(llm_over, together):
    """CrewAI's hooks run around a call made outside an agent."""
    register_before_llm_call_hook(
        lambda seen: seen.messages.append({"role": "user", "content": "And one more."})
    )
    register_after_llm_call_hook(lambda seen: seen.response.upper())
    together.script.say("Two and three.")
    asked = [{"role": "user", "content": "A prime?"}]
    try:
        assert llm_over().call(asked) == "TWO AND THREE."
    finally:
        clear_all_llm_call_hooks()
    assert [turn["content"] for turn in together.requests[0].body["messages"]] == [
        "A prime?",
        "And one more.",
    ]
    assert len(asked) == 1


def test_a_hook_can_block_a_call(llm_over, together, settled):
    """A call a hook forbids is not made, and the event says it was denied."""
    register_before_llm_call_hook(lambda _: False)
    try:
        with pytest.raises(ValueError, match="blocked"):
            llm_over().call("Hello?")
    finally:
        clear_all_llm_call_hooks()
    assert not together.requests
    assert "denied" in settled()[-1].error


def test_a_local_model_answers_first():
    """A ready client brings its own backends, and a local answer costs nothing."""
    said = Completion("Here.", usage=Usage(2, 1), cost=Decimal(0))
    local = FakeBackend("local", side="local", model="tiny", answers=[said])
    cloud = FakeBackend("cloud", side="cloud", model="huge/model")
    llm = AideonLLM(client=Client(local=local, cloud=cloud, policy="local-first"))
    assert llm.call("Where?") == "Here."
    assert (llm.model, llm.provider, llm.policy) == ("tiny|huge/model", "aideon", "local-first")
    assert cloud.requests == []


def test_token_estimates_are_quiet(llm_over, caplog):
    """Window and estimate are there for CrewAI to plan by, without a warning per call."""
    llm = llm_over()
    assert llm.get_context_window_size() == 6963
    assert llm_over(context_window=100_000).get_context_window_size() == 85_000
    assert llm.get_input_tokens_count("12345") == 2
    assert llm.get_input_tokens_count([{"role": "user", "content": "1234"}] * 2) == 2
    assert not caplog.records


def test_mistakes_are_told_by_the_constructor(tmp_path):
    """A wrong model, policy, file or parameter is an error before the first call."""
    impostor = tmp_path / "model.gguf"
    impostor.write_text("not a model")
    for fields, error in [
        ({"local": "no-such-model"}, UnknownModel),
        ({"local": str(impostor)}, NotGguf),
        ({"policy": "lokal-first"}, ConfigError),
        ({"local": None, "cloud": None}, ConfigError),
        ({"temprature": 0}, ConfigError),
        ({"model": "gpt-4"}, ConfigError),
        ({"client": Client(), "cloud": None}, ConfigError),
    ]:
        with pytest.raises(error):
            AideonLLM(**fields)


def test_the_key_shows_nowhere():
    """A key is in no dump and no repr of the LLM."""
    llm = AideonLLM(api_key="canary-key")
    shown = [repr(llm), str(llm.model_dump()), llm.model_dump_json(), str(llm.to_config_dict())]
    assert not any("canary-key" in text for text in shown)
