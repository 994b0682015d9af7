"""The real default model, in process."""

from __future__ import annotations

import asyncio
import gc
import mmap
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from aideon_core import AsyncClient, Client, Completion, LlamaCppBackend
from aideon_core.backends.llama_cpp.engine import Engine
from aideon_core.backends.llama_cpp.prompts.template import ChatTemplate
from aideon_core.errors import (
    BadRequest,
    ConfigError,
    ContextTooLong,
    LoadFailed,
    NoChatTemplate,
    Unsupported,
)
from aideon_core.types import Message
from aideon_testing import FakeBackend, GgufAnswers, LoopbackTogether

pytestmark = pytest.mark.model


@pytest.fixture
def client(local_model):
    return Client(local=local_model, cloud=None)


@pytest.fixture
def model_file(local_model):
    return local_model.path


def test_it_answers_and_counts_its_tokens(client):
    """A local answer has text, usage, a finish reason, and costs nothing."""
    answer = client.chat("What is the capital of France? One word.", max_tokens=20, temperature=0)
    assert "Paris" in answer.text
    assert answer.finish_reason == "stop"
    assert answer.usage.input_tokens > 10
    assert 0 < answer.usage.output_tokens <= 20
    assert answer.cost == 0
    assert answer.model == "qwen2.5-coder-0.5b-instruct"


def test_greedy_answers_are_the_same_whole_streamed_and_awaited(client, local_model):
    """At temperature 0 chat, stream and their awaiting twins give one text and one usage."""
    ask = {"messages": "Count from 1 to 9 in words.", "temperature": 0, "max_tokens": 40}
    whole = client.chat(**ask)
    streamed = Completion.from_chunks(client.stream(**ask))

    async def awaited():
        twin = AsyncClient(local=local_model, cloud=None)
        chunks = [chunk async for chunk in twin.stream(**ask)]
        return await twin.chat(**ask), Completion.from_chunks(chunks)

    for other in (streamed, *asyncio.run(awaited())):
        assert other.text == whole.text
        assert other.finish_reason == whole.finish_reason
        assert other.usage.output_tokens == whole.usage.output_tokens


def test_max_tokens_and_stop_are_held(client):
    """max_tokens ends with "length" at exactly that many; a stop string is never shown."""
    cut = client.chat("Write a long story.", max_tokens=7, temperature=0)
    assert (cut.finish_reason, cut.usage.output_tokens) == ("length", 7)
    text = client.chat("Count: 1 2 3", max_tokens=40, temperature=0, stop=["3"])
    assert "3" not in text.text
    assert text.finish_reason == "stop"


def test_a_seed_makes_a_warm_answer_repeatable(client):
    """The same seed gives the same text at temperature 1; other seeds give others."""
    ask = {"messages": "Invent a name for a boat.", "temperature": 1.0, "max_tokens": 16}
    texts = {seed: client.chat(**ask, seed=seed).text for seed in range(4)}
    assert client.chat(**ask, seed=2).text == texts[2]
    assert len(set(texts.values())) > 1


def test_no_character_is_torn_in_a_stream(client):
    """Emoji and other characters made of several tokens arrive whole."""
    chunks = list(client.stream("Repeat exactly: 🦔🎉日本語", max_tokens=30, temperature=0))
    assert all("\ufffd" not in chunk.text for chunk in chunks)


def test_a_shared_beginning_is_read_once(client):
    """The second question of a conversation reuses what the first one read."""
    system = {"role": "system", "content": "You answer briefly. " * 40}
    client.chat([system, {"role": "user", "content": "Hi"}], max_tokens=4)
    again = client.chat([system, {"role": "user", "content": "Bye"}], max_tokens=4)
    assert again.usage.cached_tokens > 150
    assert again.usage.cached_tokens < again.usage.input_tokens


def test_threads_take_turns_and_get_the_serial_answers(client):
    """Eight threads at once get what they would get one after the other."""
    asks = [f"What is {n} plus {n}? Only the number." for n in range(8)]
    serial = [client.chat(ask, max_tokens=6, temperature=0).text for ask in asks]
    threaded = [""] * len(asks)

    def work(n):
        threaded[n] = client.chat(asks[n], max_tokens=6, temperature=0).text

    threads = [threading.Thread(target=work, args=(n,)) for n in range(len(asks))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert threaded == serial


def test_a_closed_stream_frees_the_model_at_once(client):
    """After a stream is left early the model answers the next request, not the old one."""
    with client.stream("Write a very long story.", max_tokens=1500) as stream:
        next(stream)
    answer = client.chat("Say hi.", max_tokens=3, temperature=0)
    assert answer.route.attempts[0].seconds < 30


async def test_a_cancelled_task_frees_the_model(local_model):
    """Cancelling an awaiting call stops the generation behind it."""
    client = AsyncClient(local=local_model, cloud=None)
    # Sampled, it may once in a while refuse in a few words.
    ask = {"messages": "Count from 1 to 500, in words.", "temperature": 0, "max_tokens": 1500}
    task = asyncio.create_task(client.chat(**ask))
    await asyncio.sleep(0.3)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    answer = await client.chat("Say hi.", max_tokens=3)
    assert answer.route.attempts[0].seconds < 30


def test_a_prompt_beyond_the_context_says_how_much(client):
    """A prompt too long is ContextTooLong with both numbers, and the model goes on working."""
    with pytest.raises(ContextTooLong, match="context holds 2048"):
        client.chat("word " * 3000)
    assert client.chat("Hi", max_tokens=2).text


def test_a_prompt_beyond_the_context_goes_to_the_cloud(local_model):
    """With a cloud side the long prompt is answered there."""
    cloud = FakeBackend("cloud", side="cloud")
    answer = Client(local=local_model, cloud=cloud).chat("word " * 3000)
    assert answer.route.reason == "fell back to cloud: local failed (ContextTooLong)"


def test_what_it_cannot_do_is_said_and_not_ignored(client):
    """Images are refused with a reason instead of being dropped in silence."""
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}
    with pytest.raises(Unsupported, match="read images"):
        client.chat([{"role": "user", "content": [image]}])


def test_a_tool_with_a_broken_schema_is_told_before_anything_is_written(client):
    """A schema that is none is a BadRequest that names the tool, called or not."""
    wrong = {"type": "object", "properties": {"city": {"type": "town"}}}
    tool = {"type": "function", "function": {"name": "weather", "parameters": wrong}}
    with pytest.raises(BadRequest, match="weather"):
        next(client.stream("Say hi.", tools=[tool], max_tokens=2))


def test_a_damaged_file_says_what_llama_cpp_said(model_file, tmp_path):
    """A GGUF cut short is LoadFailed with the loader's own words."""
    damaged = tmp_path / "damaged.gguf"
    with model_file.open("rb") as whole:
        damaged.write_bytes(whole.read(300_000))
    with pytest.raises(LoadFailed, match="failed to load model"):
        Client(local=str(damaged), cloud=None).chat("Hi")


def test_a_file_without_chat_template_offers_to_take_one(model_file, tmp_path):
    """A GGUF without chat template is NoChatTemplate; chat_template= makes it answer."""
    bare = tmp_path / "bare.gguf"
    shutil.copyfile(model_file, bare)
    with bare.open("r+b") as file, mmap.mmap(file.fileno(), 64_000_000) as head:
        at = head.find(b"tokenizer.chat_template")
        head[at : at + 9] = b"tokenized"
    with pytest.raises(NoChatTemplate, match="chat_template="):
        Client(local=str(bare), cloud=None).chat("Hi")
    template = "{% for m in messages %}{{ m.content }}{% endfor %}"
    given = LlamaCppBackend(str(bare), n_ctx=256, chat_template=template)
    answer = Client(local=given, cloud=None).chat("def add(a, b):", max_tokens=4, temperature=0)
    assert answer.usage.input_tokens < 10


def test_one_model_is_in_memory_once_and_freed_when_nobody_uses_it(model_file):
    """Backends with the same options share one engine; dropping them all frees it."""
    one = LlamaCppBackend(str(model_file), n_ctx=128)
    two = LlamaCppBackend(str(model_file), n_ctx=128)
    for backend in (one, two):
        Client(local=backend, cloud=None).chat("Hi", max_tokens=1)
    assert one.engine is two.engine
    options = [options for options in Engine.live() if options.n_ctx == 128]
    assert len(options) == 1
    one.close()
    two.close()
    del one, two, backend
    gc.collect()
    assert not [options for options in Engine.live() if options.n_ctx == 128]


def test_leaving_the_program_during_an_answer_is_no_crash(model_file):
    """A script that ends while the model still writes exits cleanly."""
    script = f"""
        from aideon_core import Client
        stream = Client(local={str(model_file)!r}, cloud=None).stream("Write a story.")
        print(next(stream).text is not None)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout.strip()) == (0, "True")
    assert done.stderr == ""


def test_the_loopback_server_answers_from_the_same_model(local_model, model_file):
    """A loopback Together backed by a GGUF gives the model's own answer over HTTP."""
    ask = {"messages": "What is the capital of Italy? One word.", "temperature": 0}
    with GgufAnswers(str(model_file)) as answers, LoopbackTogether(answers=answers) as server:
        cloud = Client(local=None, api_key="k", base_url=server.base_url)
        over_http = Completion.from_chunks(cloud.stream(**ask, max_tokens=8))
        cloud.close()
    in_process = Client(local=local_model, cloud=None).chat(**ask, max_tokens=8)
    assert over_http.text == in_process.text
    assert over_http.usage.output_tokens == in_process.usage.output_tokens
    assert over_http.route.side == "cloud"


def test_a_template_that_renders_nothing_is_no_crash(model_file):
    """A prompt that is empty after the template is a BadRequest, and the process lives."""
    backend = LlamaCppBackend(str(model_file), n_ctx=256, chat_template="{{ nothing }}")
    with pytest.raises(BadRequest, match="empty"):
        Client(local=backend, cloud=None).chat("Hi")


def test_a_small_context_is_no_crash(model_file):
    """A context smaller than a batch answers short prompts and refuses long ones."""
    with pytest.raises(ConfigError, match="n_ctx"):
        LlamaCppBackend(str(model_file), n_ctx=-1)
    client = Client(local=LlamaCppBackend(str(model_file), n_ctx=300), cloud=None)
    assert client.chat("word " * 180, max_tokens=2).usage.output_tokens <= 2
    with pytest.raises(ContextTooLong):
        client.chat("word " * 2000)


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="this system has no timers")
def test_ctrl_c_frees_the_model_at_once(client):
    """An interrupted call stops the generation behind it; the next one need not wait."""
    previous = signal.signal(signal.SIGALRM, signal.default_int_handler)
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    try:
        with pytest.raises(KeyboardInterrupt):
            client.chat("Count from 1 to 900.", max_tokens=1900, temperature=0)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
    assert client.chat("Say hi.", max_tokens=3).route.attempts[0].seconds < 30


def test_closing_a_client_lets_those_who_wait_finish(model_file):
    """close() during calls from other threads: every call gets its whole answer."""
    client = Client(local=LlamaCppBackend(str(model_file), n_ctx=512), cloud=None)
    with ThreadPoolExecutor(3) as pool:
        asked = [pool.submit(client.chat, f"Count to {n}.", max_tokens=20) for n in (7, 8, 9)]
        time.sleep(0.3)
        client.close()
        assert all(each.result(timeout=120).finish_reason for each in asked)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_process_is_told_instead_of_hanging(model_file):
    """A child of a process with a loaded model gets an error that says what to do."""
    script = f"""
        import os
        from aideon_core import AideonError, Client
        client = Client(local={str(model_file)!r}, cloud=None)
        client.chat("Hi", max_tokens=1)
        if os.fork() == 0:
            try:
                client.chat("Hi", max_tokens=1)
            except AideonError as error:
                print(type(error).__name__, error.hint, flush=True)
            os._exit(0)
        os.wait()
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.stdout.startswith("LoadFailed Make the client after the fork")


def test_a_template_that_refuses_the_messages_is_a_bad_request():
    """raise_exception in a template becomes BadRequest with the template's words."""
    source = "{% if messages[0].role == 'system' %}{{ raise_exception('No system.') }}{% endif %}"
    with pytest.raises(BadRequest, match="No system"):
        ChatTemplate(source).render([Message("system", "x")])


def test_a_template_cannot_reach_out_of_its_sandbox():
    """A template from an untrusted file gets no way to Python's internals."""
    source = "{{ messages.__class__.__mro__[-1].__subclasses__() }}"
    with pytest.raises(BadRequest, match="refuses"):
        ChatTemplate(source).render([Message("user", "x")])
