"""The fields of a ChatAideon: its client follows them, and its key shows nowhere."""

from __future__ import annotations

import copy
import gc
import json
import pickle
import time
import traceback
from pathlib import Path

import pytest
from langchain_core.caches import InMemoryCache
from langchain_core.exceptions import ModelAuthenticationError
from langchain_core.load import dumps, load
from langchain_core.runnables import ConfigurableField
from pydantic import Field, ValidationError

from aideon_core import Client, Completion
from aideon_core.errors import ConfigError, MissingKey
from aideon_testing import FakeBackend
from langchain_aideon import ChatAideon

CLOUD = "meta-llama/Llama-3.3-70B-Instruct-Turbo"
OTHER = "openai/gpt-oss-20b"
LOCAL = "qwen2.5-coder-0.5b-instruct"
CANARY = "canary-key"


def models(together):
    """The models that the server was asked for."""
    return [request.body["model"] for request in together.requests]


def test_a_copy_asks_its_own_models(chat_over, together):
    """model_copy with another model or policy is answered by it, and the original as before."""
    chat = chat_over()
    chat.invoke("Hello?")
    chat.model_copy(update={"cloud": OTHER}).invoke("Hello?")
    chat.invoke("Hello?")
    assert models(together) == [CLOUD, OTHER, CLOUD]


def test_a_private_copy_of_a_public_model_never_asks_the_cloud(chat_over, together):
    """A copy with policy local-only keeps what it is asked on this machine."""
    chat = chat_over(policy="cloud-first", local=LOCAL)
    with pytest.raises(Exception, match="aideon pull"):
        chat.model_copy(update={"policy": "local-only"}).invoke("Hello?")
    assert together.requests == []


def test_an_assigned_field_holds(chat_over, together):
    """A field that is set later is followed by the next call."""
    chat = chat_over()
    chat.invoke("Hello?")
    chat.cloud = OTHER
    chat.invoke("Hello?")
    assert models(together) == [CLOUD, OTHER]


async def test_an_answer_under_way_ends_as_it_began(chat_over, together):
    """Fields that change while an answer streams are for the next one."""
    text = "One two three four five six."
    together.script.say(text, text)
    chat = chat_over()
    stream = chat.stream("Count.")
    said = next(stream).text
    chat.cloud = OTHER
    gc.collect()
    assert said + "".join(piece.text for piece in stream) == text
    astream = chat.astream("Count.")
    said, client = (await anext(astream)).text, chat._async_client
    chat.cloud = CLOUD
    gc.collect()
    assert said + "".join([piece.text async for piece in astream]) == text
    assert models(together) == [CLOUD, OTHER]
    await client.close()


def test_another_key_is_the_one_sent(chat_over, together):
    """A copy with another key sends that key."""
    chat = chat_over(api_key="first")
    again = chat.model_copy(update={"api_key": chat_over(api_key="second").api_key})
    chat.invoke("Hello?")
    again.invoke("Hello?")
    sent = [request.headers["authorization"] for request in together.requests]
    assert sent == ["Bearer first", "Bearer second"]


def test_words_can_be_made_configurable(chat_over, together):
    """configurable_fields and configurable_alternatives choose who answers a call."""
    chat = chat_over().configurable_fields(cloud=ConfigurableField(id="cloud"))
    chat.invoke("Hello?", {"configurable": {"cloud": OTHER}})
    chat.invoke("Hello?")
    either = chat_over().configurable_alternatives(
        ConfigurableField(id="who"), default_key="big", small=chat_over(cloud=OTHER)
    )
    either.invoke("Hello?", {"configurable": {"who": "small"}})
    assert models(together) == [OTHER, CLOUD, OTHER]


def test_models_of_the_same_words_share_a_client(chat_over):
    """A model made anew for each call keeps its connections; other words are other clients."""
    assert chat_over()._client is chat_over(temperature=0.5)._client
    assert chat_over()._client is not chat_over(cloud=OTHER)._client
    assert chat_over()._client is not chat_over(api_key="another")._client


def test_models_of_other_surroundings_share_none(chat_over, monkeypatch):
    """What the environment says when a model is made counts as its words do."""
    first = chat_over()
    monkeypatch.setenv("AIDEON_OFFLINE", "1")
    assert chat_over()._client is not first._client


def test_a_deep_copy_answers_and_shares_connections(chat_over, together):
    """A copied agent's model asks as the original does."""
    chat = chat_over()
    again = copy.deepcopy(chat)
    again.invoke("Hello?")
    assert again._client is chat._client
    assert models(together) == [CLOUD]


def test_a_pickled_model_answers_with_the_key_of_where_it_is(chat_over, together, monkeypatch):
    """A pickle holds no key: the model reads it again where it is unpickled."""
    chat = chat_over(api_key=CANARY, temperature=0.5, n_ctx=4096)
    chat.invoke("Hello?")
    pickled = pickle.dumps(chat)
    assert CANARY.encode() not in pickled
    again = pickle.loads(pickled)
    assert (again.temperature, again.n_ctx, again.policy) == (0.5, 4096, "cloud-only")
    with pytest.raises(MissingKey):
        again.invoke("Hello?")
    monkeypatch.setenv("TOGETHER_API_KEY", "another")
    again.invoke("Hello?")
    assert together.requests[-1].headers["authorization"] == "Bearer another"
    assert chat.api_key.get_secret_value() == CANARY


def test_several_models_a_side_and_paths_are_plain_words(tmp_path):
    """Local and cloud take lists and paths, and are serialized as text."""
    gguf = tmp_path / "model.gguf"
    gguf.write_bytes(b"GGUF" + bytes(20))
    chat = ChatAideon(local=[LOCAL, gguf], cloud=(CLOUD, OTHER))
    assert chat.local == [LOCAL, str(gguf)]
    assert chat.cloud == [CLOUD, OTHER]
    assert chat.model_name == f"{LOCAL}|model.gguf|{CLOUD}|{OTHER}"
    assert ChatAideon(local=Path(gguf)).local == str(gguf)
    json.loads(dumps(chat))


@pytest.mark.filterwarnings("ignore:The function `load` is in beta")
def test_a_dumped_model_is_loaded_as_it_was():
    """Dumps and load keep models, policy and parameters, and read the key anew."""
    chat = ChatAideon(local=[LOCAL], cloud=[CLOUD, OTHER], n_ctx=4096, top_k=5, api_key=CANARY)
    dumped = dumps(chat)
    assert CANARY not in dumped
    again = load(
        json.loads(dumped),
        secrets_map={"TOGETHER_API_KEY": "another"},
        allowed_objects=[ChatAideon],
        valid_namespaces=["langchain_aideon"],
    )
    kept = ("local", "cloud", "policy", "n_ctx", "top_k")
    assert all(getattr(again, name) == getattr(chat, name) for name in kept)
    assert again.api_key.get_secret_value() == "another"


def test_together_s_key_goes_to_nobody_else(chat_over, together, monkeypatch):
    """The environment's key is Together's: a model of another host is not sent it."""
    monkeypatch.setenv("TOGETHER_API_KEY", CANARY)
    words = {"local": None, "policy": "cloud-only", "base_url": together.base_url}
    configurable = ChatAideon(cloud=CLOUD, **words).configurable_fields(
        cloud=ConfigurableField(id="cloud")
    )
    configured, _ = configurable.prepare({"configurable": {"cloud": "ollama:m"}})
    for chat in (ChatAideon(cloud="ollama:m", **words), configured):
        with pytest.raises(ModelAuthenticationError):
            chat.invoke("Hello?")
    assert len(together.requests) == 2
    assert not [each for each in together.requests if CANARY in str(each.headers)]


def test_models_of_several_hosts_go_together(monkeypatch):
    """Each host has its own key from the environment, so one list may name several."""
    monkeypatch.setenv("TOGETHER_API_KEY", CANARY)
    chat = ChatAideon(cloud=[CLOUD, "ollama:llama3.2"], policy="cloud-only")
    assert chat.api_key is None
    assert list(chat._client.backends)[1:] == ["together", "ollama"]


def test_a_key_of_another_host_is_dumped_by_that_host_s_name():
    """Who loads a model of another host is asked for that host's key."""
    chat = ChatAideon(local=None, cloud="groq:llama-3.3-70b-versatile", api_key=CANARY)
    assert json.loads(dumps(chat))["kwargs"]["api_key"]["id"] == ["GROQ_API_KEY"]


def test_a_key_that_changes_in_the_environment_is_read_again(chat_over, together, monkeypatch):
    """The environment's key is read for each call, so a rotated one is the one sent."""
    monkeypatch.setenv("TOGETHER_API_KEY", "first")
    words = {"local": None, "cloud": CLOUD, "policy": "cloud-only", "max_retries": 0}
    chat = ChatAideon(base_url=together.base_url, **words)
    assert chat.api_key.get_secret_value() == "first"
    chat.invoke("Hello?")
    monkeypatch.setenv("TOGETHER_API_KEY", "second")
    time.sleep(1.1)
    chat.invoke("Hello?")
    sent = [request.headers["authorization"] for request in together.requests]
    assert sent == ["Bearer first", "Bearer second"]


def test_the_key_shows_nowhere(chat_over):
    """A key is in no repr, dump, cache key or traceback, whatever goes wrong with it."""
    chat = chat_over(api_key=CANARY)
    shown = [repr(chat), str(chat), dumps(chat), chat.model_dump_json(), chat._get_llm_string()]
    mistakes = ({"policy": "nope"}, {"temprature": 0}, {"temperature": "hot"}, {"model": "x"})
    for mistake in mistakes:
        with pytest.raises(ValueError, match=r"nope|temprature|temperature|model") as caught:
            chat_over(api_key=CANARY, **mistake)
        told = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
        ours = [frame for frame in told.stack if "/tests/" not in frame.filename]
        shown += [str(frame.locals) for frame in ours] + [str(caught.value)]
    for wrong in ([CANARY], {CANARY: 1}):
        with pytest.raises(ConfigError, match="api_key") as refused:
            chat_over(api_key=wrong)
        shown.append(str(refused.value))
    assert not [text for text in shown if CANARY in text]


def test_a_cache_is_not_shared_by_other_policies(chat_over, together):
    """A cached answer is given again to the same words only: never to other models or rules."""
    together.script.say(*"abcdef")
    cache = InMemoryCache()
    chat = chat_over(cache=cache)
    assert chat.invoke("Hello?").content == chat.invoke("Hello?").content == "a"
    assert chat_over(cache=cache).invoke("Hello?").content == "a"
    assert chat.model_copy(update={"policy": "cloud-first"}).invoke("Hello?").content == "b"
    assert chat_over(cache=cache, cloud=OTHER).invoke("Hello?").content == "c"
    assert chat_over(cache=cache, local=LOCAL).invoke("Hello?").content == "d"
    assert chat.invoke("Hello?", policy="cloud-first").content == "e"
    chat.temperature = 0.5
    assert chat.invoke("Hello?").content == "f"


def test_a_cache_is_not_shared_by_other_clients():
    """Two clients whose models have the same name are two models to a cache."""
    cache, said = InMemoryCache(), []
    for text in ("Here.", "There."):
        backend = FakeBackend("local", side="local", answers=[Completion(text)])
        chat = ChatAideon(client=Client(local=backend, cloud=None), cache=cache)
        said.append((chat, chat.invoke("Hello?").content))
    assert [text for _, text in said] == ["Here.", "There."]


def test_a_client_says_all_there_is_to_say():
    """With client= its words are the model's, and a copy cannot say otherwise."""
    client = Client(local=FakeBackend("local", side="local"), cloud=None, policy="local-only")
    chat = ChatAideon(client=client)
    assert (chat.local, chat.cloud, chat.policy) == ("fake", None, "local-only")
    assert chat.model_copy(update={"temperature": 0.5}).invoke("Hello?").content == "Hello."
    with pytest.raises(ConfigError, match="policy"):
        chat.model_copy(update={"policy": "cloud-only"}).invoke("Hello?")
    for fields in ({"n_ctx": 4096}, {"policy": "cloud-only"}, {"api_key": "k"}):
        with pytest.raises(ConfigError, match="client="):
            ChatAideon(client=client, **fields)


def test_the_local_context_is_checked_at_once():
    """n_ctx that is none is told by the constructor."""
    with pytest.raises(ConfigError, match="n_ctx"):
        ChatAideon(n_ctx=0)


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"model": CLOUD}, "cloud="),
        ({"model_name": CLOUD}, "cloud="),
        ({"local": []}, "local="),
        ({"cloud": 7}, "cloud"),
        ({"together_api_key": "k"}, "api_key="),
        ({"together_api_base": "http://host"}, "base_url="),
        ({"request_timeout": 3}, "timeout="),
        ({"model_kwargs": {"top_k": 3}}, "top_k="),
        ({"max_completion_tokens": 3}, "max_tokens="),
        ({"stream_usage": True}, "every answer"),
        ({"temprature": 0}, "temperature="),
        ({"organization": "o"}, r"help\(ChatAideon\)"),
    ],
)
def test_mistaken_words_are_told(fields, told):
    """A word that does not exist or says nothing is an error that says what to write."""
    with pytest.raises((ConfigError, ValidationError), match=told):
        ChatAideon(**fields)


def test_a_stop_may_be_one_text(chat_over, together):
    """The constructor takes one stop as a text, as a call does."""
    chat_over(stop="END").invoke("Count.")
    assert together.requests[0].body["stop"] == ["END"]


def test_a_subclass_may_have_fields_of_its_own():
    """Fields that a subclass adds are taken, by name or alias, and others still refused."""

    class Own(ChatAideon):
        """A model with a label and a tone."""

        label: str = ""
        tone: str = Field(default="", alias="mood")

    own = Own(label="mine", mood="calm")
    assert (own.label, own.tone) == ("mine", "calm")
    with pytest.raises(ConfigError, match="label="):
        Own(labl="mine")
