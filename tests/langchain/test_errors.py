"""Aideon's errors as LangChain knows them."""

from __future__ import annotations

import pytest
from langchain_core import exceptions

from aideon_core import AideonError, Client, Completion, errors
from aideon_testing import Cut, Failure, FakeBackend
from langchain_aideon import ChatAideon
from langchain_aideon.errors import translated

_MATCHES = [
    (Failure.invalid_key(), errors.AuthError, exceptions.ModelAuthenticationError),
    (Failure.invalid_input(), errors.BadRequest, exceptions.ModelInvalidRequestError),
    (Failure.over_context(), errors.ContextTooLong, exceptions.ContextOverflowError),
    (Failure.unknown_model("x"), errors.NotFound, exceptions.ModelNotFoundError),
    (Failure.rate_limited(), errors.RateLimited, exceptions.ModelRateLimitError),
    (Failure.server_error(), errors.ServerError, exceptions.ModelAPIError),
    (Failure.error(408, "Too slow."), errors.TimedOut, exceptions.ModelTimeoutError),
]


@pytest.mark.parametrize(("failure", "ours", "langchains"), _MATCHES)
def test_errors_are_both_ours_and_langchains(chat_over, together, failure, ours, langchains):
    """Either name catches the error, and its route and status stay with it."""
    together.script.fail(failure)
    with pytest.raises(langchains) as caught:
        chat_over().invoke("Hello?")
    assert isinstance(caught.value, ours)
    assert caught.value.status_code == failure.status
    assert caught.value.route.attempts
    assert type(caught.value.__cause__) is ours


async def test_every_way_of_asking_raises_them(chat_over, together):
    """Streams and awaited calls raise the same errors as invoke."""
    together.script.fail(*[Failure.rate_limited()] * 3)
    chat = chat_over()
    with pytest.raises(exceptions.ModelRateLimitError):
        list(chat.stream("Hello?"))
    with pytest.raises(exceptions.ModelRateLimitError):
        await chat.ainvoke("Hello?")
    with pytest.raises(exceptions.ModelRateLimitError):
        [piece async for piece in chat.astream("Hello?")]


def test_a_missing_key_is_an_authentication_error():
    """Without a key the error says where to put one."""
    chat = ChatAideon(local=None, policy="cloud-only")
    with pytest.raises(exceptions.ModelAuthenticationError, match="TOGETHER_API_KEY"):
        chat.invoke("Hello?")


def test_an_unreachable_host_is_a_connection_error():
    """A host that does not answer raises LangChain's connection error."""
    chat = ChatAideon(local=None, policy="cloud-only", api_key="k", base_url="http://127.0.0.1:9")
    with pytest.raises(exceptions.ModelConnectionError):
        chat.invoke("Hello?")


def test_when_everybody_fails_each_cause_is_told():
    """With both sides down the error is a group with one cause for each."""
    client = Client(
        local=FakeBackend("local", side="local", answers=[errors.LoadFailed("No memory.")]),
        cloud=FakeBackend("cloud", side="cloud", answers=[errors.RateLimited("Slow down.")]),
        max_retries=0,
    )
    with pytest.raises(exceptions.ModelError) as caught:
        ChatAideon(client=client).invoke("Hello?")
    assert isinstance(caught.value, errors.AllBackendsFailed)
    assert [type(cause) for cause in caught.value.exceptions] == [
        errors.LoadFailed,
        errors.RateLimited,
    ]
    assert len(caught.value.route.attempts) == 2


def test_a_broken_stream_keeps_what_was_delivered():
    """A stream that breaks after its first words says so and keeps them."""
    cut = Cut(Completion("One two three."), after=2)
    client = Client(local=FakeBackend("local", side="local", answers=[cut]), cloud=None)
    with pytest.raises(errors.StreamInterrupted) as caught:
        list(ChatAideon(client=client).stream("Count."))
    assert caught.value.partial.text == "One two"


def test_a_mistyped_parameter_is_named(chat_over, together):
    """A parameter nobody knows is an error that names the nearest one."""
    with pytest.raises(AideonError, match="Did you mean 'temperature'"):
        chat_over().invoke("Hello?", temprature=0)
    assert not together.requests


def _kinds(kind):
    return [kind, *(each for below in kind.__subclasses__() for each in _kinds(below))]


@pytest.mark.parametrize(
    "kind",
    [
        kind
        for root in (errors.BackendError, errors.Ineligible, errors.StreamInterrupted)
        for kind in _kinds(root)
        if kind.__module__ == "aideon_core.errors"
        and kind not in (errors.BackendError, errors.Ineligible)
    ],
)
def test_whatever_a_model_raises_is_a_model_error(kind):
    """One except clause for ModelError catches every error that a call can end with."""
    with pytest.raises(exceptions.ModelError) as raised, translated():
        raise kind("Something.", hint="Do this.", backend="together")
    assert isinstance(raised.value, kind)
    assert (raised.value.hint, raised.value.backend) == ("Do this.", "together")
