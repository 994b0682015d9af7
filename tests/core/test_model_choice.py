"""Several models on a side, one model for one call, and what is known of a model."""

from __future__ import annotations

import os
import signal
import struct

import pytest

from aideon_core import AsyncClient, Client, LlamaCppBackend, TogetherBackend
from aideon_core.backends.llama_cpp.files import trained_context
from aideon_core.config import Config
from aideon_core.errors import BadRequest, ConfigError, ConnectFailed, Excluded, UnknownModel
from aideon_core.types import Completion, ModelFacts
from aideon_testing import Failure, FakeBackend

from .tiny_models import TRAINED, write_chat_model

SMALL, LARGE = "openai/gpt-oss-20b", "openai/gpt-oss-120b"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A real model of a few layers, which says nonsense."""
    return write_chat_model(tmp_path_factory.mktemp("models") / "tiny.gguf")


@pytest.fixture
def over(together):
    """Build a client whose cloud is the loopback server; it is closed after."""
    clients = []

    def build(**words):
        words = {"local": None, "cloud": [SMALL, LARGE], "max_retries": 0} | words
        clients.append(Client(api_key="loopback", base_url=together.base_url, **words))
        return clients[-1]

    yield build
    for client in clients:
        client.close()


class TestSeveralModelsOnASide:
    """A list of models is asked in its order."""

    def test_the_next_model_answers_when_one_cannot(self, over, together):
        """A failing model of a side is followed by the next of that side, on the same keys."""
        together.script.fail(Failure.unavailable())
        together.script.say("Two.")
        answer = over().chat("Name a prime.")
        assert answer.text == "Two."
        assert [each.body["model"] for each in together.requests] == [SMALL, LARGE]
        assert [attempt.model for attempt in answer.route.attempts] == [SMALL, LARGE]

    def test_sides_come_before_models(self):
        """Under cloud-first every cloud model is asked before any local one."""
        failed = FakeBackend("a", side="cloud", answers=[ConnectFailed("No route.")])
        clouds = [failed, FakeBackend("b", side="cloud", answers=[Completion(text="B")])]
        client = Client(local=FakeBackend("c", side="local"), cloud=clouds, policy="cloud-first")
        route = client.chat("Hi").route
        assert [attempt.backend for attempt in route.attempts] == ["a", "b"]

    def test_models_of_one_host_are_told_apart(self, over):
        """Every backend of a client has a name of its own, even where two are alike."""
        assert list(over().backends) == ["together", f"together:{LARGE}"]
        alike = [FakeBackend("fake", side="cloud") for _ in range(3)]
        assert len(Client(local=None, cloud=alike).backends) == 3

    @pytest.mark.parametrize("words", [{"local": []}, {"cloud": []}, {"cloud": ["x", 7]}])
    def test_what_is_no_list_of_models_is_refused(self, words):
        """An empty list, or a thing that is no model, says so at once."""
        with pytest.raises(ConfigError, match="local=|cloud="):
            Client(**({"local": None, "cloud": None} | words))

    def test_one_key_is_not_sent_to_two_hosts(self):
        """A key given for the cloud is refused where the cloud is several hosts."""
        with pytest.raises(ConfigError, match="together and groq"):
            Client(local=None, cloud=[SMALL, "groq:llama"], api_key="k")


class TestOneModelForOneCall:
    """``model=`` names who answers this call, and nobody else does."""

    def test_another_model_of_the_clients_cloud_answers(self, over, together):
        """Any model of the client's cloud can be named, on its keys and address."""
        together.script.say("Two.")
        answer = over(cloud=SMALL).chat(
            "Name a prime.", model="meta-llama/Llama-3.3-70B-Instruct-Turbo"
        )
        assert together.requests[-1].body["model"] == "meta-llama/Llama-3.3-70B-Instruct-Turbo"
        assert answer.route.model == "meta-llama/Llama-3.3-70B-Instruct-Turbo"

    async def test_it_is_the_same_in_every_way_of_asking(self, over, together):
        """chat, stream and run_tools take it, blocking and awaiting."""
        together.script.say(*["Two."] * 6)
        client = over()
        awaiting = AsyncClient.sharing(client)
        client.chat("Hi", model=LARGE)
        with client.stream("Hi", model=LARGE) as stream:
            list(stream)
        client.run_tools("Hi", model=LARGE)
        await awaiting.chat("Hi", model=LARGE)
        async with awaiting.stream("Hi", model=LARGE) as stream:
            assert [chunk async for chunk in stream]
        await awaiting.run_tools("Hi", model=LARGE)
        assert {each.body["model"] for each in together.requests} == {LARGE}
        await awaiting.close()

    def test_a_failure_of_that_model_is_not_covered_by_another(self, over, together):
        """Whoever names a model gets its answer or its error."""
        together.script.fail(Failure.unavailable())
        with pytest.raises(Exception, match="503|unavailable") as raised:
            over().chat("Hi", model=LARGE)
        assert [attempt.model for attempt in raised.value.route.attempts] == [LARGE]

    def test_a_local_file_can_be_named(self, tiny):
        """A path names a model in this process, which answers without the cloud."""
        client = Client(local=str(tiny), cloud=None)
        with client:
            answer = client.chat("Hi", model=str(tiny), max_tokens=3)
        assert (answer.route.side, answer.route.model) == ("local", "tiny.gguf")

    def test_a_client_without_a_cloud_stays_without(self):
        """Naming a cloud model opens no way to a cloud that the client does not have."""
        client = Client(local=FakeBackend("local", side="local"), cloud=None)
        with pytest.raises(ConfigError, match="no cloud side"):
            client.chat("Hi", model=SMALL)

    def test_the_policy_still_rules(self):
        """A cloud model that is named stays out of reach under local-only."""
        cloud = FakeBackend("cloud", side="cloud", model="big")
        client = Client(local=FakeBackend("local", side="local"), cloud=cloud, policy="local-only")
        with pytest.raises(Excluded, match="does not use the cloud"):
            client.chat("Hi", model="big")
        assert cloud.requests == []

    def test_a_name_that_is_none_says_so(self, over):
        """An empty name and a file that is not there are refused before anything is sent."""
        with pytest.raises(ConfigError, match="name of a model"):
            over().chat("Hi", model="")
        with pytest.raises(ConfigError, match="name of a model"):
            over().chat("Hi", model=[SMALL])
        with pytest.raises(UnknownModel):
            over().chat("Hi", model="nowhere.gguf")


class TestAPolicyForOneCall:
    """``policy=`` rules one call."""

    def test_one_call_can_be_kept_at_home(self):
        """A call under local-only reaches no cloud, whatever the client prefers."""
        cloud = FakeBackend("cloud", side="cloud")
        client = Client(local=FakeBackend("local", side="local"), cloud=cloud, policy="cloud-first")
        assert client.chat("Hi", policy="local-only").route.side == "local"
        assert cloud.requests == []
        assert client.chat("Hi").route.side == "cloud"

    def test_the_patience_is_the_clients(self):
        """A policy named for one call retries as often as the client does."""
        local = FakeBackend("local", side="local", answers=[ConnectFailed("Gone.")])
        client = Client(local=local, cloud=None, max_retries=0)
        with pytest.raises(ConnectFailed):
            client.chat("Hi", policy="local-only")
        assert len(local.requests) == 1

    def test_an_unknown_policy_names_the_known_ones(self):
        """A slip of the pen is told before anything is sent."""
        local = FakeBackend("local", side="local")
        with pytest.raises(ConfigError, match="local-only"):
            Client(local=local, cloud=None).chat("Hi", policy="local-onyl")
        assert local.requests == []


class TestFacts:
    """What is known of a model before it is asked."""

    def test_a_local_model_tells_its_context_without_being_loaded(self, tiny):
        """The context is what requests get: n_ctx, or what the model was trained for."""
        assert LlamaCppBackend(tiny, n_ctx=64).facts.context_tokens == 64
        backend = LlamaCppBackend(tiny, n_ctx=TRAINED * 4)
        assert backend.facts.context_tokens == TRAINED
        assert backend.engine is None

    def test_a_model_that_is_not_here_yet_has_the_context_asked_for(self, tmp_path):
        """Before a model is pulled, n_ctx is all there is to tell."""
        backend = LlamaCppBackend(
            "qwen2.5-coder-0.5b-instruct", n_ctx=512, config=Config(home=tmp_path)
        )
        assert backend.facts == ModelFacts(512, 512, media=False)

    @pytest.mark.parametrize(
        "header",
        [
            b"",
            b"GGUF",
            struct.pack("<4sIQQ", b"GGUF", 3, 0, 2) + b"\xff" * 40,
            struct.pack("<4sIQQQ4s", b"GGUF", 3, 0, 9, 2**62, b"name"),
            struct.pack("<4sIQQQ1sIQ", b"GGUF", 3, 0, 1, 1, b"x", 99, 0),
            struct.pack("<4sIQQQ1sIIQ", b"GGUF", 3, 0, 1, 1, b"x", 9, 8, 2**60),
        ],
    )
    def test_a_damaged_header_tells_nothing(self, tmp_path, header):
        """A header that cannot be read is no error here: loading the model tells what is wrong."""
        file = tmp_path / "damaged.gguf"
        file.write_bytes(header)
        assert trained_context(file) is None

    def test_together_models_are_known_by_name(self, over):
        """The catalogue tells the context of Together's models, and nothing of unknown ones."""
        client = over(cloud=[SMALL, "somebody/else"])
        known, unknown = (each.facts for each in client.backends.values())
        assert (known.context_tokens, known.media) == (131_072, False)
        assert unknown == ModelFacts()


class TestCounting:
    """``count_tokens`` counts a prompt without asking anybody."""

    def test_a_local_model_counts_exactly(self, tiny):
        """The count is what the answer's usage says, without the weights being loaded."""
        client = Client(local=LlamaCppBackend(tiny), cloud=None)
        with client:
            counted = client.count_tokens("Hello there, world.")
            assert client.backends["local"].engine is None
            assert client.chat("Hello there, world.", max_tokens=1).usage.input_tokens == counted

    def test_tools_are_part_of_the_prompt(self, tiny):
        """What offering a tool costs is counted."""

        def weather(city: str) -> str:
            """Tell the weather."""

        client = Client(local=LlamaCppBackend(tiny), cloud=None)
        assert client.count_tokens("Hi", tools=[weather]) > client.count_tokens("Hi")

    def test_text_that_spells_a_control_token_is_counted_as_text(self, tiny):
        """Tokens of a text are of the text alone, and no control token is among them."""
        client = Client(local=LlamaCppBackend(tiny), cloud=None)
        assert len(client.tokens("<|im_end|>")) > 1
        assert client.tokens("") == []

    def test_half_a_character_is_refused(self, tiny):
        """A text that cannot be written down has no tokens, and the error says where it breaks."""
        client = Client(local=LlamaCppBackend(tiny), cloud=None)
        with pytest.raises(BadRequest, match="position 3"):
            client.tokens("abc\ud800")

    def test_a_picture_is_estimated_beside_a_local_model_too(self, tiny):
        """No local model reads pictures, so such a prompt is counted as the cloud's."""
        client = Client(local=LlamaCppBackend(tiny), cloud=FakeBackend("cloud", side="cloud"))
        picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}
        assert client.count_tokens([{"role": "user", "content": [picture]}]) > 1000

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
    @pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
    def test_a_forked_child_counts_too(self, tiny):
        """A child counts, though a thread of its parent was counting when it was forked."""
        client = Client(local=LlamaCppBackend(tiny), cloud=None)
        counted = client.count_tokens("Hi")
        with client.backends["local"]._counter()._lock:
            if (pid := os.fork()) == 0:
                signal.alarm(10)
                os._exit(client.count_tokens("Hi") != counted)
        assert os.waitpid(pid, 0)[1] == 0

    def test_without_a_local_model_it_is_an_estimate(self, over):
        """A cloud's tokenizer is not here: letters are four to a token, other signs one each."""
        client = over()
        assert client.tokens("Hello") is None
        assert client.count_tokens("a" * 400) == 104
        assert client.count_tokens("\u4f60\u597d") == 6
        picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}
        message = {"role": "user", "content": [picture]}
        assert client.count_tokens([message]) > 1000

    def test_what_is_no_prompt_is_refused(self, over):
        """Counting checks its arguments as asking does."""
        with pytest.raises(BadRequest):
            over().count_tokens([])


def test_a_model_known_to_be_blind_is_shown_no_picture():
    """A picture goes to the model that reads it, and not to one that would guess."""
    blind = FakeBackend("blind", side="cloud", facts=ModelFacts(media=False))
    seeing = FakeBackend("seeing", side="cloud", facts=ModelFacts(media=True))
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}
    answer = Client(local=None, cloud=[blind, seeing]).chat(
        [{"role": "user", "content": [picture]}]
    )
    assert answer.route.backend == "seeing"
    assert "read images" in str(answer.route.considered[0].ruled_out)
    assert blind.requests == []


def test_a_backend_that_lacks_something_is_told_what():
    """Whoever writes a backend learns which members it still needs."""

    class Half:
        name, side, model, abilities = "half", "cloud", "m", frozenset()

        def complete(self, request):
            raise NotImplementedError

    with pytest.raises(ConfigError, match=r"A backend has facts, unavailable, stream, .* besides"):
        Client(local=None, cloud=Half())


def test_the_sdks_of_two_models_do_not_close_each_other():
    """What one model of a host lets go of, another goes on using."""
    pytest.importorskip("together")
    first = TogetherBackend(SMALL, api_key="k", base_url="http://127.0.0.1:9")
    sdk = first.sdk()
    second = first.of_model(LARGE)
    assert second.sdk() is not sdk
    second.close()
    assert not sdk._client.is_closed
    first.close()
