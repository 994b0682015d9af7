"""An answer that breaks off in the middle is carried on by another model, and loses nothing."""

from __future__ import annotations

import json
import time
from decimal import Decimal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aideon_core import AsyncClient, Client, Completion, LlamaCppBackend, ToolCall, Usage
from aideon_core.errors import BadRequest, ConnectFailed, InvalidOutput, StreamInterrupted
from aideon_core.types import Chunk
from aideon_testing import Cut, FakeBackend, Reply

from .tiny_models import write_chat_model

STORY = "Once upon a time there was a fox, and that is all."


class Follower(FakeBackend):
    """A local model that knows the story, and goes on with it from wherever it is asked to."""

    def __init__(self, **words):
        abilities = frozenset({"prefix", "json", "tools", "logprobs"})
        super().__init__("local", side="local", model="small", abilities=abilities, **words)

    def _next(self, request):
        self.requests.append(request)
        said = request.prefix or ""
        assert STORY.startswith(said)
        usage = Usage(10 + len(said), 5)
        return self._filled(Completion(text=STORY[len(said) :], usage=usage, cost=Decimal(0)))


def cloud_cut_after(pieces, completion=None, name="cloud"):
    whole = completion or Completion(text=STORY, usage=Usage(10, 12), cost=Decimal(1))
    return FakeBackend(name, side="cloud", model="large", answers=[Cut(whole, pieces)])


def folded(client, **params):
    with client.stream("Tell me a story.", **params) as stream:
        chunks = list(stream)
    return chunks, Completion.from_chunks(chunks)


@given(st.integers(1, 12), st.integers(0, 12))
def test_no_character_is_lost_or_doubled_wherever_it_breaks(first, second):
    """However often and wherever clouds break off, the caller sees one answer, in order."""
    clouds = [cloud_cut_after(first)]
    clouds += [Continuing(second)] if second else []
    client = Client(local=Follower(), cloud=clouds, policy="cloud-first")
    chunks, answer = folded(client)
    assert answer.text == STORY
    assert [chunk.finish_reason for chunk in chunks if chunk.finish_reason] == ["stop"]
    assert answer.route.attempts[-1].error is None
    assert sum(attempt.characters for attempt in answer.route.attempts) <= len(STORY)


class Continuing(FakeBackend):
    """A cloud that goes on with the story too, and breaks off again after some pieces."""

    def __init__(self, after):
        abilities = frozenset({"prefix"})
        super().__init__("second", side="cloud", model="large", abilities=abilities)
        self._after = after

    def _next(self, request):
        self.requests.append(request)
        return Cut(self._filled(Completion(text=STORY[len(request.prefix or "") :])), self._after)


def test_the_route_tells_where_the_seam_is():
    """route, explain() and the warnings say who wrote what, and that the cost is not known."""
    client = Client(local=Follower(), cloud=cloud_cut_after(4), policy="cloud-first")
    _, answer = folded(client)
    broken, rest = answer.route.attempts
    assert STORY[: broken.characters] == "Once upon a time"
    assert isinstance(broken.error, ConnectFailed)
    assert rest.error is None
    assert "local went on with the answer" in answer.route.reason
    assert "It broke off after character 16." in answer.route.explain()
    assert "'large' up to character 16" in answer.warnings[0]
    assert answer.cost is None
    assert answer.usage == Usage(26, 5)


async def test_it_is_the_same_when_awaited():
    """AsyncClient carries on as Client does."""
    client = AsyncClient(local=Follower(), cloud=cloud_cut_after(3), policy="cloud-first")
    async with client.stream("Tell me a story.") as stream:
        chunks = [chunk async for chunk in stream]
    assert Completion.from_chunks(chunks).text == STORY


def test_what_was_given_to_begin_with_is_still_no_part_of_the_answer():
    """A prefix of the caller's own comes before the seam, and the answer goes on from both."""
    cloud = FakeBackend(
        "cloud",
        side="cloud",
        abilities=frozenset({"prefix"}),
        answers=[Cut(Completion(text=STORY[5:]), 2)],
    )
    local = Follower()
    client = Client(local=local, cloud=cloud, policy="cloud-first")
    _, answer = folded(client, prefix="Once ")
    assert answer.text == STORY[5:]
    assert local.requests[0].prefix == STORY[: 5 + answer.route.attempts[0].characters]


def test_the_longest_answer_counts_what_was_said_before():
    """max_tokens is of the whole answer: the part before the seam is taken off it."""
    local = Follower()
    client = Client(local=local, cloud=cloud_cut_after(4), policy="cloud-first")
    folded(client, max_tokens=50)
    assert local.requests[0].max_tokens == 46


def test_thoughts_count_as_said():
    """Thoughts come off max_tokens as words do, but a model that begins anew has all of it."""
    thought = "Let me see. " * 4
    for text, left in ((STORY[:4], 60 - 16), ("", 60)):
        local = Follower()
        cloud = Cutting(text, reasoning=thought)
        folded(Client(local=local, cloud=cloud, policy="cloud-first"), max_tokens=60)
        assert abs(local.requests[0].max_tokens - left) < 6


def test_a_break_among_thoughts_is_told_as_such():
    """Where no word of the answer had come, the warning says that thoughts had."""
    client = Client(local=Follower(), cloud=Cutting("", reasoning="Let me"), policy="cloud-first")
    _, answer = folded(client)
    assert (answer.reasoning, answer.text) == ("Let me", STORY)
    (seam,) = answer.warnings
    assert seam.startswith("The answer is by 'small'; thoughts of another model came before it")


def test_warnings_outlive_the_seam():
    """What was said of the request before the break is still told, and so is who went on."""
    client = Client(
        local=Silent(), cloud=Cutting("Once", warnings=("No seed.",)), policy="cloud-first"
    )
    _, answer = folded(client)
    warned, seam = answer.warnings
    assert warned == "No seed."
    assert "by 'small' from there on" in seam


class Silent(Follower):
    """It does not tell which model it is."""

    def stream(self, request):
        self.requests.append(request)
        yield Chunk(text=" upon", finish_reason="stop")


def test_thoughts_are_shown_once():
    """What the second model thinks is not mixed with what the first one thought."""
    thinking = Completion(reasoning="Let me see.", text=STORY)
    client = Client(local=Thinker(), cloud=cloud_cut_after(8, thinking), policy="cloud-first")
    chunks, answer = folded(client)
    assert answer.text == STORY
    assert answer.reasoning == "Let me see."
    assert not any(chunk.reasoning == "Hm." for chunk in chunks)


class Thinker(Follower):
    def stream(self, request):
        yield Chunk(reasoning="Hm.")
        yield from super().stream(request)


class TestWhereThereIsNoSeam:
    """Where an answer cannot be joined, the error carries what was delivered."""

    def test_nobody_can_go_on(self):
        """Without a model that goes on from a beginning, the stream is interrupted."""
        local = FakeBackend("local", side="local", abilities=frozenset())
        client = Client(local=local, cloud=cloud_cut_after(4), policy="cloud-first")
        with pytest.raises(StreamInterrupted) as raised:
            folded(client)
        assert raised.value.partial.text == "Once upon a time"
        assert local.requests == []

    def test_a_call_was_begun(self):
        """A tool call that broke off is never followed by prose."""
        calls = (ToolCall("1", "look", '{"at": "the '), ToolCall("2", "look", "{}"))
        cloud = cloud_cut_after(1, Completion(tool_calls=calls))
        client = Client(local=Follower(), cloud=cloud, policy="cloud-first")
        look = {"type": "function", "function": {"name": "look", "parameters": {}}}
        with pytest.raises(StreamInterrupted) as raised:
            folded(client, tools=[look])
        assert raised.value.partial.tool_calls

    def test_whoever_goes_on_fails_too(self):
        """All that was delivered is in the error, and the break is what it tells of."""
        local = Refusing()
        client = Client(local=local, cloud=cloud_cut_after(4), policy="cloud-first")
        with pytest.raises(StreamInterrupted, match="cloud broke off") as raised:
            folded(client)
        assert raised.value.partial.text == "Once upon a time"
        assert [type(each.error) for each in raised.value.route.attempts] == [
            ConnectFailed,
            BadRequest,
        ]

    def test_the_policy_keeps_the_other_side_out(self):
        """Under cloud-only nothing local is asked, seam or not."""
        local = Follower()
        client = Client(local=local, cloud=cloud_cut_after(4), policy="cloud-only")
        with pytest.raises(StreamInterrupted):
            folded(client)
        assert local.requests == []

    def test_half_a_character_came(self):
        """An emoji that a server was sending in two halves is no text to go on from."""
        local = Follower()
        client = Client(local=local, cloud=Cutting("Once \ud83e"), policy="cloud-first")
        with pytest.raises(StreamInterrupted):
            folded(client)
        assert local.requests == []

    def test_the_deadline_is_over(self):
        """A model is not asked to go on when there is no time left."""
        local = Follower()
        client = Client(local=local, cloud=Cutting(STORY[:4], pause=0.02), policy="cloud-first")
        with pytest.raises(StreamInterrupted):
            folded(client, deadline=0.005)
        assert local.requests == []


class Refusing(Follower):
    def _next(self, request):
        self.requests.append(request)
        raise BadRequest("That cannot be gone on with.")


SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 6},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
        "kind": {"enum": ["fox", "owl"]},
    },
    "required": ["name", "age", "kind"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A real model that says nonsense, in whatever form it is held to."""
    path = write_chat_model(tmp_path_factory.mktemp("models") / "tiny.gguf")
    backend = LlamaCppBackend(path, n_ctx=512, n_threads=1)
    yield backend
    backend.close()


class TestUnderAForm:
    """A form holds over the seam."""

    @settings(
        max_examples=25,
        deadline=None,  # A real model takes as long as the machine does.
        suppress_health_check=[HealthCheck.function_scoped_fixture],
    )
    @given(cut=st.integers(1, 40), spaces=st.sampled_from([(", ", ": "), (",", ":")]))
    def test_json_is_carried_on_by_a_real_model(self, tiny, cut, spaces):
        """Cut anywhere, JSON is gone on with under its schema: the whole of it is valid."""
        text = json.dumps({"name": "Ada", "age": 36, "kind": "owl"}, separators=spaces)
        begun = text[: min(cut, len(text) - 1)]
        cloud = Cutting(begun)
        client = Client(local=tiny, cloud=cloud, policy="cloud-first")
        with client.stream("Who?", output_type=SCHEMA, max_tokens=200) as stream:
            shown = "".join(chunk.text for chunk in stream)
            answer = stream.completion
        assert shown == answer.text
        assert answer.text.startswith(begun)
        assert answer.value == json.loads(answer.text)
        assert answer.route.side == "local"

    def test_what_has_not_the_form_is_not_gone_on_with(self, tiny):
        """Prose where JSON was asked for is no beginning: the error carries it."""
        client = Client(local=tiny, cloud=Cutting("Sure, here "), policy="cloud-first")
        with pytest.raises((StreamInterrupted, InvalidOutput)) as raised:
            folded(client, output_type=SCHEMA)
        assert raised.value.partial.text == "Sure, here "


class Cutting(FakeBackend):
    """A cloud that says something and is gone."""

    def __init__(self, begun, pause=0.0, **said):
        super().__init__("cloud", side="cloud")
        self._begun, self._pause = Chunk(text=begun, **said), pause

    def stream(self, request):
        self.requests.append(request)
        yield self._begun
        time.sleep(self._pause)
        raise ConnectFailed("Gone.")


class Closing(FakeBackend):
    """It notes when what it streams is closed."""

    def __init__(self, name, side, *chunks, error=None):
        super().__init__(name, side=side, abilities=frozenset({"prefix"}))
        self._told, self._error = chunks, error
        self.streams_closed = 0

    def stream(self, request):
        try:
            yield from self._told
            if self._error is not None:
                raise self._error
        finally:
            self.streams_closed += 1


async def test_both_streams_are_closed_when_the_reader_leaves():
    """Whoever stops reading after the seam stops both models, awaiting or not."""
    words = [Chunk(text=word) for word in "abcdef"]
    cloud = Closing("cloud", "cloud", *words[:2], error=ConnectFailed("Gone."))
    local = Closing("local", "local", *words)
    client = Client(local=local, cloud=cloud, policy="cloud-first")
    with client.stream("Go on.") as stream:
        assert [next(stream).text for _ in range(3)] == ["a", "b", "a"]
    assert (cloud.streams_closed, local.streams_closed) == (1, 1)
    async with AsyncClient.sharing(client).stream("Go on.") as stream:
        assert [(await anext(stream)).text for _ in range(3)] == ["a", "b", "a"]
    assert (cloud.streams_closed, local.streams_closed) == (2, 2)


def test_a_connection_cut_by_the_server_is_carried_on_by_a_real_model(together, tiny):
    """Over HTTP: what the server said comes first, and the local model's words follow."""
    together.script.reply(Reply(STORY, cut_after=5))
    cloud = {"cloud": "openai/gpt-oss-20b", "api_key": "loopback", "base_url": together.base_url}
    with Client(local=tiny, policy="cloud-first", max_retries=0, **cloud) as client:
        _, answer = folded(client, max_tokens=12)
    broken = answer.route.attempts[0]
    assert broken.characters > 0
    assert answer.text.startswith(STORY[: broken.characters])
    assert answer.route.side == "local"
