"""LangChain's own Together LLM, which speaks to the completions endpoint by itself."""

from __future__ import annotations

import pytest
from langchain_together import Together

from aideon_testing import Failure

MODEL = "meta-llama/Llama-3.3-70B-Instruct-Turbo"


@pytest.fixture
def llm(together_env):
    """The LLM, with its address given: it reads none from the environment."""
    url = f"{together_env.base_url}/v1/completions"
    return Together(model=MODEL, base_url=url, max_tokens=20)


async def test_every_way_of_asking_gives_the_same_text(llm, together):
    """invoke, ainvoke, batch and stream give the text as it comes."""
    together.script.say(*[" a city of love"] * 5)
    assert llm.invoke("Paris is") == " a city of love"
    assert await llm.ainvoke("Paris is") == " a city of love"
    assert llm.batch(["Paris is"]) == [" a city of love"]
    assert "".join(llm.stream("Paris is")) == " a city of love"
    assert "".join([piece async for piece in llm.astream("Paris is")]) == " a city of love"
    assert together.requests[0].body == {"model": MODEL, "prompt": "Paris is", "max_tokens": 20}


async def test_a_stop_ends_the_text(llm, together):
    """One stop word goes as a text, several as a list; both end the answer before the word."""
    together.script.say(*["One two three"] * 2)
    assert llm.invoke("Count.", stop=[" two"]) == "One"
    assert await llm.ainvoke("Count.", stop=[" two", " three"]) == "One"
    assert [request.body["stop"] for request in together.requests] == [" two", [" two", " three"]]


async def test_failures_are_raised_with_what_the_server_said(llm, together):
    """A refusal is a ValueError that holds the body, a failure of the server names its status."""
    together.script.fail(Failure.invalid_input(), *[Failure.unavailable()] * 2)
    with pytest.raises(ValueError, match="Input validation error"):
        llm.invoke("x")
    with pytest.raises(Exception, match="Together Server: Error 503"):
        llm.invoke("x")
    with pytest.raises(Exception, match="Together Server: Error 503"):
        await llm.ainvoke("x")
