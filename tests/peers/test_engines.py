"""Each engine writes its answers in its own way; every peer reads the same answer from all."""

from __future__ import annotations

import json

import httpx
import openai
import pytest
import together as sdk
from langchain_together import ChatTogether
from llama_index.llms.together import TogetherLLM

from aideon_core.types import ToolCall
from aideon_testing import LoopbackTogether, Reply

TEXT = "Hello there, 京都 👋."
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}
# As real traffic has them: engines that refuse tools, and streams whose calls come twice, cut
# short, or beside the delta, where no client looks.
NO_TOOLS = {"deepcogito/cogito-v2-1-671b", "google/gemma-3-27b-it"}
BROKEN_STREAMS = {
    "Qwen/Qwen3-Coder-480B-A35B-Instruct-FP8",
    "deepseek-ai/DeepSeek-V4-Pro",
}


@pytest.fixture
def together(engines):
    """A server of every engine."""
    with LoopbackTogether(models=engines) as server:
        yield server


@pytest.fixture
def http():
    """A client for all that a test builds."""
    with httpx.Client() as client:
        yield client


@pytest.fixture(params=[sdk.Together, openai.OpenAI], ids=["together", "openai"])
def client(request, together, http):
    """Either SDK."""
    home = "/v1" if request.param is openai.OpenAI else ""
    return request.param(
        api_key="k", base_url=together.base_url + home, max_retries=0, http_client=http
    )


def test_both_sdks_read_the_text_of_every_engine(client, together, engines):
    """Whole and streamed, the text is the text."""
    for model in engines:
        together.script.say(TEXT, TEXT)
        asked = {"model": model, "messages": [{"role": "user", "content": "Hello?"}]}
        whole = client.chat.completions.create(**asked)
        assert whole.choices[0].message.content == TEXT, model
        stream = client.chat.completions.create(**asked, stream=True)
        deltas = [choice.delta for chunk in stream for choice in chunk.choices]
        assert "".join(delta.content or "" for delta in deltas) == TEXT, model


def test_both_sdks_read_the_tool_calls_of_every_engine(client, together, engines):
    """Whole and streamed, the calls are the calls, where the engine calls tools at all."""
    wanted = [("get_weather", {"city": "Rome"}), ("get_weather", {"city": "京都"})]
    calls = tuple(ToolCall("", name, json.dumps(arguments)) for name, arguments in wanted)
    for model in engines:
        asked = {"model": model, "messages": [{"role": "user", "content": "Weather?"}]}
        asked |= {"tools": [WEATHER]}
        if model in NO_TOOLS:
            with pytest.raises((openai.BadRequestError, sdk.BadRequestError), match="tool choice"):
                client.chat.completions.create(**asked)
            continue
        together.script.reply(*[Reply(tool_calls=calls)] * 2)
        whole = client.chat.completions.create(**asked).choices[0].message
        read = [
            (call.function.name, json.loads(call.function.arguments)) for call in whole.tool_calls
        ]
        assert read == wanted, model
        streamed = _joined_calls(client.chat.completions.create(**asked, stream=True))
        assert (streamed == wanted) is (model not in BROKEN_STREAMS), model


def test_langchain_reads_the_text_of_every_engine(together, http, engines):
    """What ChatTogether gives, whole and in chunks, is the text."""
    address = {"api_key": "k", "base_url": f"{together.base_url}/v1"}
    chat = ChatTogether(**address, max_retries=0, http_client=http)
    for model in engines:
        together.script.say(TEXT, TEXT)
        assert chat.invoke("Hello?", model=model).content == TEXT, model
        chunks = chat.stream("Hello?", model=model)
        assert "".join(chunk.content for chunk in chunks) == TEXT, model


def test_llama_index_reads_the_text_of_every_engine(together, http, engines):
    """What TogetherLLM gives, whole and in deltas, is the text."""
    for model in engines:
        together.script.say(TEXT, TEXT)
        url = f"{together.base_url}/v1"
        llm = TogetherLLM(model=model, api_key="k", api_base=url, max_retries=0, http_client=http)
        assert llm.complete("Hello?").text == TEXT, model
        assert "".join(piece.delta or "" for piece in llm.stream_complete("Hello?")) == TEXT, model


def _joined_calls(stream):
    """The calls of a stream; arguments that are no JSON stay text."""
    names, arguments = {}, {}
    for chunk in stream:
        for choice in chunk.choices:
            for call in choice.delta.tool_calls or ():
                names[call.index] = names.get(call.index, "") + (call.function.name or "")
                written = arguments.get(call.index, "")
                arguments[call.index] = written + (call.function.arguments or "")
    return [(names[index], _json(text)) for index, text in sorted(arguments.items())]


def _json(text):
    try:
        return json.loads(text)
    except ValueError:
        return text
