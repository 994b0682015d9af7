"""Client and AsyncClient over fakes: the surface users write against."""

from __future__ import annotations

import asyncio
import copy
import inspect

import pytest

from aideon_core import AsyncClient, Client, Completion, Message, Usage
from aideon_core.config import Config, Secret
from aideon_core.errors import (
    BadRequest,
    ConfigError,
    ConnectFailed,
    MissingKey,
    NotGguf,
    Offline,
    StreamInterrupted,
    UnknownModel,
)
from aideon_testing import Cut, FakeBackend

ANSWER = Completion(text="Two, three, five.", finish_reason="stop", usage=Usage(9, 6))


class Sync:
    """Drives a Client."""

    def __init__(self, **words):
        self.client = Client(**words)

    async def chat(self, *args, **params):
        return self.client.chat(*args, **params)

    async def stream(self, *args, **params):
        with self.client.stream(*args, **params) as stream:
            return list(stream), stream


class Async(Sync):
    """Drives an AsyncClient the same way."""

    def __init__(self, **words):
        self.client = AsyncClient(**words)

    async def chat(self, *args, **params):
        return await self.client.chat(*args, **params)

    async def stream(self, *args, **params):
        async with self.client.stream(*args, **params) as stream:
            return [chunk async for chunk in stream], stream


@pytest.fixture(params=[Sync, Async])
def make(request):
    return request.param


def sides(local=ANSWER, cloud=ANSWER):
    return {
        "local": FakeBackend("local", side="local", model="small", answers=[local]),
        "cloud": FakeBackend("cloud", side="cloud", model="large", answers=[cloud]),
    }


async def test_a_prompt_is_answered_with_usage_and_a_reason(make):
    """A string is a prompt; the answer has text, usage, model, finish reason and a route."""
    answer = await make(**sides(), policy="local-first").chat("Name three primes.", max_tokens=64)
    assert answer.text == "Two, three, five."
    assert answer.usage.total_tokens == 15
    assert answer.model == "small"
    assert answer.finish_reason == "stop"
    assert answer.route.side == "local"
    assert "local: small answered" in answer.route.explain()


async def test_a_conversation_may_be_openai_dicts_or_messages(make):
    """OpenAI-style dicts, content parts and Message values reach the backend alike."""
    words = sides()
    turns = [
        {"role": "developer", "content": "Be brief."},
        Message("user", "Hi"),
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": "now", "arguments": "{}"}}
            ],
        },
        {"role": "tool", "tool_call_id": "c1", "content": "noon"},
        {
            "role": "user",
            "content": [{"type": "text", "text": "And "}, {"type": "text", "text": "now?"}],
        },
    ]
    await make(**words, policy="cloud-first").chat(turns)
    seen = words["cloud"].requests[0].messages
    assert [turn.role for turn in seen] == ["system", "user", "assistant", "tool", "user"]
    assert seen[2].tool_calls[0].name == "now"
    assert seen[4].text == "And now?"


async def test_a_stream_ends_with_the_facts_and_folds_into_the_whole_answer(make):
    """Chunks join to the text; the last has usage, cost and route; completion is the fold."""
    chunks, stream = await make(**sides(), policy="local-first").stream("Name three primes.")
    assert "".join(chunk.text for chunk in chunks) == "Two, three, five."
    assert len(chunks) > 2
    assert chunks[-1].usage == Usage(9, 6)
    assert chunks[-1].route.side == "local"
    assert all(chunk.usage is None for chunk in chunks[:-1])
    assert stream.completion == Completion.from_chunks(chunks)


async def test_a_broken_stream_gives_back_what_came(make):
    """A stream cut after delivery raises StreamInterrupted with the text so far."""
    words = sides(cloud=Cut(ANSWER, after=2))
    with pytest.raises(StreamInterrupted) as raised:
        await make(**words, policy="cloud-first").stream("Go on.")
    assert raised.value.partial.text
    assert ANSWER.text.startswith(raised.value.partial.text)
    assert raised.value.partial.text != ANSWER.text
    assert words["local"].requests == []


async def test_a_dead_cloud_falls_back_to_local(make):
    """With cloud-first and the cloud down, the local model answers and the route says so."""
    words = sides(cloud=ConnectFailed("no route to host"))
    answer = await make(**words, policy="cloud-first").chat("Hello?")
    assert answer.route.backend == "local"
    assert answer.route.attempts[0].error.message == "no route to host"


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"temprature": 0.5}, "Did you mean 'temperature'"),
        ({"temperature": 3}, "from 0 to 2"),
        ({"top_p": -0.1}, "from 0 to 1"),
        ({"max_tokens": 0}, "at least 1"),
        ({"max_tokens": 1.5}, "whole number"),
        ({"seed": "a"}, "whole number"),
        ({"stop": [5]}, "list of texts"),
        ({"tools": "abc"}, "list of functions or tool schemas"),
        ({"response_format": "json_object"}, "has to be an object"),
        ({"tool_choice": "any"}, "auto, none, required"),
    ],
)
async def test_wrong_parameters_are_refused_before_anything_is_sent(make, params, said):
    """A wrong parameter is a BadRequest that says what is right, and no backend is asked."""
    words = sides()
    with pytest.raises(BadRequest, match=said):
        await make(**words).chat("Hello?", **params)
    assert words["local"].requests == words["cloud"].requests == []


@pytest.mark.parametrize(
    "messages",
    [
        [],
        [{"role": "robot", "content": "beep"}],
        [Message("robot", "beep")],
        {"role": "user", "content": "not in a list"},
        None,
        b"bytes",
        ["text"],
        [{"role": "user", "content": b"bytes"}],
        [{"role": "user", "content": {"type": "text", "text": "not in a list"}}],
        [{"role": "user", "content": [{"type": "text"}]}],
        [{"role": "user", "content": "half an emoji \ud83e"}],
        [{"role": "assistant", "tool_calls": [{"function": "f"}]}],
    ],
)
async def test_wrong_messages_are_refused(make, messages):
    """What is no conversation is a BadRequest that names the place."""
    with pytest.raises(BadRequest, match="messages"):
        await make(**sides()).chat(messages)


def test_wrong_words_are_errors_of_the_constructor(tmp_path):
    """A model, file or policy that does not exist fails at once, with what to use instead."""
    page = tmp_path / "page.gguf"
    page.write_text("<html>sign in</html>")
    with pytest.raises(UnknownModel, match="qwen2.5-coder-0.5b-instruct"):
        Client(local="qwen2.5-coder-0.5b-instrct")
    with pytest.raises(UnknownModel, match="no model file"):
        Client(local=str(tmp_path / "nowhere.gguf"))
    with pytest.raises(NotGguf, match="begins with b'<htm'"):
        Client(local=str(page))
    with pytest.raises(ConfigError, match="Did you mean 'cloud-only'"):
        Client(policy="cloud_only")
    for words in (
        {"local": 5},
        {"cloud": ""},
        {"cloud": 5},
        {"policy": 5},
        {"timeout": -1},
        {"max_retries": "x"},
        {"base_url": "localhost:8000"},
        {"api_key": "not\u200bplain"},
    ):
        with pytest.raises(ConfigError):
            Client(**words)
    with pytest.raises(ConfigError, match="no backend"):
        Client(local=None, cloud=None)


def test_a_cloud_model_may_name_its_host():
    """What comes before a colon names the host, unless the colon is the model's own."""
    assert Client(local=None, cloud="together:a/b").backends["together"].model == "a/b"
    assert Client(local=None, cloud="a/b:free").backends["together"].model == "a/b:free"
    assert Client(local=None, cloud="ollama:llama3.2:3b").backends["ollama"].model == "llama3.2:3b"
    with pytest.raises(ConfigError, match="no cloud host 'olama'.*Did you mean 'ollama'"):
        Client(local=None, cloud="olama:llama3.2")


def test_without_a_key_the_cloud_says_which_variable_to_set(tmp_path):
    """Needing the cloud without a key is MissingKey, and the hint names TOGETHER_API_KEY."""
    client = Client(local=None, config=Config(home=tmp_path))
    with pytest.raises(MissingKey, match="TOGETHER_API_KEY"):
        client.chat("Hello?")


def test_offline_rules_the_cloud_out(tmp_path):
    """AIDEON_OFFLINE forbids the cloud even with a key."""
    config = Config(home=tmp_path, offline=True, together_api_key=Secret("k"))
    with pytest.raises(Offline, match="AIDEON_OFFLINE"):
        Client(local=None, config=config).chat("Hello?")


def test_a_local_model_that_is_not_here_is_no_hidden_download(tmp_path):
    """A model not pulled is ruled out with the command that pulls it, and the cloud answers."""
    cloud = FakeBackend("cloud", side="cloud", answers=[ANSWER])
    answer = Client(cloud=cloud, config=Config(home=tmp_path)).chat("Hello?")
    assert answer.route.backend == "cloud"
    ruled_out = answer.route.considered[0].ruled_out
    assert ruled_out.hint == "Fetch it with: aideon pull qwen2.5-coder-0.5b-instruct"


def test_a_key_never_shows():
    """The key is in no repr of the client or its parts."""
    client = Client(local=None, api_key="canary-key-8d1f")
    assert "canary-key-8d1f" not in repr(client) + repr(vars(client.backends["together"]))


def test_both_clients_have_the_same_methods_and_parameters():
    """What Client takes, AsyncClient takes."""
    for name in ("__init__", "chat", "stream", "close"):
        one, two = getattr(Client, name), getattr(AsyncClient, name)
        assert inspect.signature(one).parameters == inspect.signature(two).parameters
    public = {name for name in dir(Client) if not name.startswith("_")}
    assert public == {name for name in dir(AsyncClient) if not name.startswith("_")}


def test_a_client_works_inside_a_running_loop():
    """The blocking client can be called where a loop runs, as in a notebook cell."""

    async def cell():
        return Client(**sides()).chat("Hello?").text

    assert asyncio.run(cell()) == "Two, three, five."


def test_a_twin_shares_backends_and_policy():
    """AsyncClient.sharing gives the awaiting twin of a client, and the other way round."""
    client = Client(**sides(), policy="cloud-first", max_retries=0)
    twin = AsyncClient.sharing(client)
    assert asyncio.run(twin.chat("Hello?")).route.backend == "cloud"
    assert Client.sharing(twin).backends is client.backends


def test_a_word_that_would_reach_nothing_is_refused():
    """api_key= beside a ready backend, or a negative max_retries, is an error."""
    with pytest.raises(ConfigError, match="do not reach"):
        Client(**sides(), api_key="k")
    with pytest.raises(ConfigError, match="max_retries"):
        Client(**sides(), max_retries=-1)


def test_a_copy_of_what_holds_a_client_shares_it():
    """Deep copies, as agent frameworks make them, share the client."""
    client = Client(local=None, api_key="k")
    assert copy.deepcopy({"client": client})["client"] is client


def test_closing_a_client_closes_its_backends():
    """Leaving the with block lets go of both sides."""
    words = sides()
    with Client(**words):
        pass
    assert words["local"].closed
    assert words["cloud"].closed
