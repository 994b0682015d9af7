"""Whole answers of POST /v1/chat/completions."""

from __future__ import annotations

import json
import logging
import re

import httpx2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aideon_core.types import Chunk, TokenLogprob, ToolCall, Usage
from aideon_testing import BrokenOff, LoopbackTogether, Reply
from aideon_testing.script import pieces

CHAT = "/v1/chat/completions"
MODEL = "openai/gpt-oss-120b"


def test_a_scripted_text_is_the_answer(together, client, chat_body):
    """What a test says is what the client reads."""
    together.script.say("Hello there.")
    body = client.post(CHAT, json=chat_body).json()
    assert body["choices"][0]["message"]["content"] == "Hello there."
    assert body["choices"][0]["finish_reason"] == "stop"
    assert body["model"] == chat_body["model"]


def test_answers_come_in_the_order_they_were_scripted(together, client, chat_body):
    """The script is a queue."""
    together.script.say("one", "two")
    texts = [
        client.post(CHAT, json=chat_body).json()["choices"][0]["message"]["content"] for _ in "12"
    ]
    assert texts == ["one", "two"]
    assert len(together.script) == 0


def test_an_empty_script_repeats_the_last_message(client, chat_body):
    """A server nobody scripted still answers, the same every time."""
    texts = {
        client.post(CHAT, json=chat_body).json()["choices"][0]["message"]["content"] for _ in "12"
    }
    assert texts == {"The loopback server heard: Say hello."}


def test_a_whole_answer_is_indented_and_in_the_wires_order(together, client, chat_body):
    """Bodies are byte for byte what the API would write for them."""
    together.script.reply(Reply("Hello", reasoning="A greeting.", usage=Usage(75, 48)))
    response = client.post(CHAT, json=chat_body)
    body = response.json()
    assert response.text == json.dumps(body, indent=2)
    assert list(body) == [
        "id", "object", "created", "model", "metadata", "prompt", "choices", "usage",
    ]  # fmt: skip
    assert list(body["choices"][0]) == ["index", "message", "logprobs", "finish_reason", "seed"]
    assert list(body["choices"][0]["message"]) == ["role", "content", "tool_calls", "reasoning"]
    assert body["usage"] == {
        "prompt_tokens": 75, "total_tokens": 123, "completion_tokens": 48, "reasoning_tokens": 0,
    }  # fmt: skip


def test_a_tool_call_is_answered_with_empty_text(together, client, chat_body):
    """Tool calls carry an index, an id and their arguments as JSON text."""
    together.script.call("get_weather", city="Oslo")
    choice = client.post(CHAT, json=chat_body).json()["choices"][0]
    (call,) = choice["message"]["tool_calls"]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["content"] == ""
    assert list(call) == ["id", "index", "type", "function"]
    assert call["id"].startswith("call_")
    assert call["function"] == {"name": "get_weather", "arguments": '{"city": "Oslo"}'}


@pytest.mark.parametrize("streamed", [False, True])
def test_no_two_tool_calls_of_a_server_have_one_id(chat_body, streamed):
    """Agents side by side never mix up their calls; a server like it gives the same ids."""

    def ids() -> list[str]:
        with (
            LoopbackTogether() as server,
            httpx2.Client(base_url=server.base_url, headers={"authorization": "Bearer k"}) as http,
        ):
            for _ in range(4):
                server.script.call("f", x=1)
            bodies = (chat_body, chat_body, chat_body | {"n": 2})
            texts = [http.post(CHAT, json=body | {"stream": streamed}).text for body in bodies]
        return re.findall(r"call_[0-9a-f]{24}", "".join(texts))

    first = ids()
    assert len(first) == len(set(first)) == 4
    assert ids() == first


def test_tool_call_ids_given_by_the_test_are_kept(together, client, chat_body):
    """A test can name its calls."""
    calls = (ToolCall("call_a", "f", "{}"), ToolCall("call_b", "g", "{}"))
    together.script.reply(Reply(tool_calls=calls))
    answered = client.post(CHAT, json=chat_body).json()["choices"][0]["message"]["tool_calls"]
    assert [(call["id"], call["index"]) for call in answered] == [("call_a", 0), ("call_b", 1)]


def test_headers_carry_the_id_and_limits_even_on_success(client, chat_body):
    """retry-after on a 200 is normal here, so clients must not take it for a limit."""
    response = client.post(CHAT, json=chat_body)
    assert response.headers["x-request-id"] == response.json()["id"]
    assert response.headers["retry-after"] == "2"
    assert response.headers["x-ratelimit"] == "false"
    assert response.headers["content-type"] == "application/json; charset=utf-8"
    assert int(response.headers["content-length"]) == len(response.content)


@pytest.mark.parametrize("streamed", [False, True])
def test_a_request_to_debug_is_told_of_its_way(client, chat_body, streamed):
    """x-together-debug adds headers; without it they are not there."""
    asked = chat_body | {"stream": streamed}
    plain = client.post(CHAT, json=asked).headers
    headers = client.post(CHAT, json=asked, headers={"x-together-debug": "1"}).headers
    names = {"x-together-traceid", "x-cluster", "x-engine-pod"}
    assert names <= set(headers)
    assert not names & set(plain)
    assert headers["x-together-traceid"] in headers["x-request-id"]


@pytest.mark.parametrize(
    ("parameters", "text", "finish_reason"),
    [
        ({"max_tokens": 3}, "One two three", "length"),
        ({"max_tokens": 5}, "One two three, four", "length"),
        ({"max_tokens": 60}, "One two three, four five.", "stop"),
        ({"max_completion_tokens": 1}, "One", "length"),
        ({"stop": ["four", "five"]}, "One two three, ", "stop"),
        ({"stop": "two"}, "One ", "stop"),
        ({"stop": ["absent"]}, "One two three, four five.", "stop"),
        ({"stop": ["five"], "max_tokens": 2}, "One two", "length"),
    ],
)
def test_limits_of_the_request_apply_to_scripted_text(
    together, client, chat_body, parameters, text, finish_reason
):
    """max_tokens and stop end a scripted answer as they would end a model's."""
    together.script.say("One two three, four five.")
    body = client.post(CHAT, json=chat_body | parameters).json()
    assert body["choices"][0]["message"]["content"] == text
    assert body["choices"][0]["finish_reason"] == finish_reason


CALLS = (ToolCall("a", "f", '{"x": 1}'), ToolCall("b", "g", "{}"))


@given(limit=st.integers(0, 20), text=st.sampled_from(["", "Let me see."]), streamed=st.booleans())
@settings(max_examples=30, deadline=None)
def test_a_tool_call_is_cut_where_its_tokens_end(limit, text, streamed):
    """A model that may say no more leaves its call unfinished, and the reason is "length"."""
    messages = [{"role": "user", "content": "Hi"}]
    body = {"model": MODEL, "messages": messages, "max_tokens": limit, "stream": streamed}
    with LoopbackTogether() as server:
        server.script.reply(Reply(text, tool_calls=CALLS))
        url, headers = server.base_url + CHAT, {"authorization": "Bearer k"}
        told = httpx2.post(url, json=body, headers=headers).text
    lines = [line.removeprefix("data: ") for line in told.split("\n\n") if "[DONE]" not in line]
    answers = [json.loads(line) for line in (lines if streamed else [told]) if line]
    choices = [choice for answer in answers for choice in answer["choices"]]
    messages = [choice["delta" if streamed else "message"] for choice in choices]
    calls = [call for message in messages for call in message.get("tool_calls") or ()]
    ours = "".join(message["content"] for message in messages)
    ours += "".join(call["function"]["arguments"] for call in calls)
    whole = len(pieces(text)) + sum(1 + len(pieces(call.arguments)) for call in CALLS)
    said = text + "".join(call.arguments for call in CALLS)
    assert answers[-1]["usage"]["completion_tokens"] == min(limit, whole)
    finish = "tool_calls" if limit >= whole else "length"
    assert [choice["finish_reason"] for choice in choices if choice["finish_reason"]] == [finish]
    assert said.startswith(ours)
    assert (ours == said) == (limit >= whole)


def test_no_tokens_are_no_answer(together, client, chat_body):
    """max_tokens 0 gets nothing of the answer, in chat and in completions."""
    together.script.say("One.", "One.")
    asked = {"model": MODEL, "max_tokens": 0}
    (chat,) = client.post(CHAT, json=chat_body | asked).json()["choices"]
    body = asked | {"prompt": "Count."}
    (completion,) = client.post("/v1/completions", json=body).json()["choices"]
    assert (chat["message"]["content"], chat["finish_reason"]) == ("", "length")
    assert (completion["text"], completion["finish_reason"]) == ("", "length")


def test_reasoning_counts_as_output(together, client, chat_body):
    """A reasoning model can spend all of max_tokens on its thoughts."""
    together.script.reply(Reply("Yes.", reasoning="Let me think."))
    body = client.post(CHAT, json=chat_body | {"max_tokens": 2}).json()
    assert body["choices"][0]["message"]["content"] == ""
    assert body["choices"][0]["message"]["reasoning"] == "Let me"
    assert body["usage"]["completion_tokens"] == body["usage"]["reasoning_tokens"] == 2


def test_a_cut_answer_breaks_off_inside_its_body(together, client, chat_body):
    """A connection lost in the middle of a body is an error the client sees."""
    together.script.reply(Reply("Hello", cut_after=1))
    with pytest.raises(httpx2.RemoteProtocolError):
        client.post(CHAT, json=chat_body)
    assert client.post(CHAT, json=chat_body).status_code == 200


def test_a_delayed_answer_comes_too_late_for_an_impatient_client(together, client, chat_body):
    """A delay makes a client run into its own timeout."""
    together.script.reply(Reply("Hello", delay=60))
    with pytest.raises(httpx2.ReadTimeout):
        client.post(CHAT, json=chat_body, timeout=0.05)


def test_every_request_is_recorded(together, client, chat_body):
    """A test can look at what its client sent."""
    client.post(CHAT, json=chat_body, headers={"X-Extra": "1"})
    (request,) = together.requests
    assert (request.method, request.path, request.headers["x-extra"]) == ("POST", CHAT, "1")
    assert request.body == chat_body


def test_a_base_url_that_repeats_v1_still_works(client, chat_body):
    """The together SDK with a base URL ending in /v1 asks for /v1/v1, and is served."""
    assert client.post(f"/v1{CHAT}", json=chat_body).status_code == 200


def test_an_answerer_of_ones_own_takes_over_when_the_script_is_empty(chat_body):
    """Scripted answers come first, the given answerer says the rest."""

    class Shout:
        async def answer(self, body):
            yield Chunk(text=body["messages"][-1]["content"].upper())
            yield Chunk(finish_reason="stop", usage=Usage(1, 1))

    with LoopbackTogether(Shout()) as server:
        server.script.say("scripted")
        texts = [_ask(server, chat_body) for _ in "12"]
    assert texts == ["scripted", "SAY HELLO."]


def test_a_bug_in_an_answerer_is_a_500_and_a_logged_traceback(chat_body, caplog):
    """A client never hangs on a broken answerer, and the cause can be read."""

    class Broken:
        async def answer(self, body):
            raise ZeroDivisionError
            yield

    with LoopbackTogether(Broken()) as server, caplog.at_level(logging.ERROR):
        response = httpx2.post(
            server.base_url + CHAT, json=chat_body, headers={"authorization": "Bearer k"}
        )
    assert response.status_code == 500
    assert "ZeroDivisionError" in caplog.text


def test_an_answerer_may_break_off_before_a_word(chat_body):
    """BrokenOff before the first chunk ends the connection right after the headers."""

    class Gone:
        async def answer(self, body):
            raise BrokenOff
            yield

    with LoopbackTogether(Gone()) as server, pytest.raises(httpx2.RemoteProtocolError):
        _ask(server, chat_body | {"stream": True})


def test_each_choice_takes_the_next_answer(together, client, chat_body):
    """A request for several choices is scripted like as many; its prompt counts once."""
    together.script.say("one", "two words", "three")
    body = client.post(CHAT, json=chat_body | {"n": 2}).json()
    texts = [choice["message"]["content"] for choice in body["choices"]]
    assert texts == ["one", "two words"]
    assert [choice["index"] for choice in body["choices"]] == [0, 1]
    assert body["usage"]["completion_tokens"] == 3
    assert body["usage"]["total_tokens"] == 3 + body["usage"]["prompt_tokens"]
    assert len(together.script) == 1


def test_an_answerer_is_asked_for_each_choice_apart(chat_body):
    """Whoever answers knows nothing of n: each choice is a request, with a seed of its own."""
    heard = []

    class Listener:
        async def answer(self, body):
            heard.append(body)
            yield Chunk(text="ok", finish_reason="stop", usage=Usage(1, 1))

    with LoopbackTogether(Listener()) as server:
        _ask(server, chat_body | {"n": 2, "seed": 7})
        _ask(server, chat_body | {"n": 2})
    seeds = [{"seed": 7}, {"seed": 8}, {}, {}]
    assert heard == [chat_body | seed for seed in seeds]


def test_scripted_json_is_the_text(together, client, chat_body):
    """A value is sent as the JSON text a model would write."""
    together.script.json({"city": "Łódź", "rank": 3}, [1])
    asked = chat_body | {"response_format": {"type": "json_object"}}
    contents = [
        client.post(CHAT, json=asked).json()["choices"][0]["message"]["content"] for _ in "12"
    ]
    assert contents == ['{"city": "Łódź", "rank": 3}', "[1]"]


@pytest.mark.parametrize(
    "response_format",
    [
        {"type": "text"},
        {"type": "json_object"},
        {"type": "json_object", "schema": {"type": "object"}},
        {"type": "json_schema", "schema": {"type": "object"}},
        {"type": "json_schema", "json_schema": {"name": "x", "schema": {}, "strict": True}},
        {"type": "regex", "pattern": "[ab]+"},
    ],
)
def test_every_response_format_of_the_api_is_taken(client, chat_body, response_format):
    """A schema may stand where Together has it or where OpenAI has it."""
    asked = chat_body | {"response_format": response_format}
    assert client.post(CHAT, json=asked).status_code == 200


def test_parameters_nobody_knows_are_ignored(client, chat_body):
    """A client's own fields do no harm."""
    extra = {"parallel_tool_calls": False, "user": "me", "provider": {"a": 1}, "stream_options": {}}
    assert client.post(CHAT, json=chat_body | extra).status_code == 200


@pytest.mark.parametrize("asked", [{"logprobs": 2}, {"logprobs": True, "top_logprobs": 2}])
def test_logprobs_are_made_for_any_text(together, client, chat_body, asked):
    """Asked for in either API's way, every token has them, the same every time."""
    together.script.say("Hello there.", "Hello there.")
    first, second = (client.post(CHAT, json=chat_body | asked).json()["choices"][0] for _ in "12")
    tokens = first["logprobs"]["content"]
    assert first["logprobs"] == second["logprobs"]
    assert "".join(token["token"] for token in tokens) == "Hello there."
    assert all(token["logprob"] < 0 for token in tokens)
    for token in tokens:
        top = token["top_logprobs"]
        assert [top[0][key] for key in ("token", "logprob")] == [token["token"], token["logprob"]]
        assert top[0]["logprob"] > top[1]["logprob"]
        assert len(top) == 2


@pytest.mark.parametrize("asked", [{}, {"logprobs": False}, {"logprobs": None}])
def test_logprobs_nobody_asked_for_are_not_sent(together, client, chat_body, asked):
    """Scripted or not, they come on request."""
    together.script.reply(Reply("Hi", logprobs=(TokenLogprob("Hi", -0.5),)))
    assert client.post(CHAT, json=chat_body | asked).json()["choices"][0]["logprobs"] is None


def test_scripted_logprobs_are_sent_as_they_are(together, client, chat_body):
    """A test can say how sure the model was, and where its tokens end."""
    top = (("Hi", -0.5), ("Ho", -1.25))
    tokens = (TokenLogprob("Hi", -0.5, top), TokenLogprob(" the", -2.0), TokenLogprob("re", -0.1))
    together.script.reply(Reply("Hi there", logprobs=tokens))
    asked = chat_body | {"logprobs": 2, "max_tokens": 2}
    choice = client.post(CHAT, json=asked).json()["choices"][0]
    assert choice["message"]["content"] == "Hi the"
    assert choice["logprobs"]["content"] == [
        {
            "token": "Hi", "bytes": [72, 105], "logprob": -0.5,
            "top_logprobs": [
                {"token": "Hi", "bytes": [72, 105], "logprob": -0.5},
                {"token": "Ho", "bytes": [72, 111], "logprob": -1.25},
            ],
        },
        {"token": " the", "bytes": [32, 116, 104, 101], "logprob": -2.0, "top_logprobs": []},
    ]  # fmt: skip


def test_logprobs_have_to_be_those_of_the_text():
    """A reply that contradicts itself is an error where it is written."""
    with pytest.raises(ValueError, match="join to 'Ho'"):
        Reply("Hi", logprobs=(TokenLogprob("Ho", -1.0),))


def test_a_stop_string_in_the_thoughts_ends_the_answer(together, client, chat_body):
    """Stop strings are looked for in all a model says, so a hidden one leaves no text."""
    together.script.reply(Reply("Yes.", reasoning="What is it?"))
    choice = client.post(CHAT, json=chat_body | {"stop": ["is"]}).json()["choices"][0]
    assert choice["message"]["content"] == ""
    assert choice["message"]["reasoning"] == "What "
    assert choice["finish_reason"] == "stop"


def test_an_echo_repeats_the_prompt(client, chat_body):
    """What was asked comes back when a request wants it, and only then."""
    plain = client.post(CHAT, json=chat_body).json()
    echoed = client.post(CHAT, json=chat_body | {"echo": True}).json()
    assert plain["prompt"] == []
    assert [part["text"] for part in echoed["prompt"]] == ["Say hello."]


@pytest.mark.parametrize("behaviour", [None, "error", "truncate"])
def test_a_prompt_beyond_the_context_is_refused_unless_it_may_be_cut(client, chat_body, behaviour):
    """The body says how much there was and how much there may be."""
    asked = chat_body | {"max_tokens": 131072, "context_length_exceeded_behavior": behaviour}
    response = client.post(CHAT, json=asked)
    if behaviour == "truncate":
        assert response.status_code == 200
        return
    told = response.json()["error"]
    assert (response.status_code, told["param"]) == (400, "max_tokens")
    assert "must be <= 131072. Given: 3 `inputs` tokens" in told["message"]


def _ask(server, body):
    headers = {"authorization": "Bearer k"}
    answer = httpx2.post(server.base_url + CHAT, json=body, headers=headers).json()
    return answer["choices"][0]["message"]["content"]
