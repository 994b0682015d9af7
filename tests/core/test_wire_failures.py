"""Responses without success, and the errors they stand for."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aideon_core.backends import wire
from aideon_core.errors import (
    AuthError,
    BackendError,
    BadRequest,
    ContextTooLong,
    NotFound,
    RateLimited,
    ServerError,
    TimedOut,
)

DATE = "Wed, 21 Oct 2026 07:28:00 GMT"
LATER = "Wed, 21 Oct 2026 07:28:30 GMT"
THEN = 1792567680.0
OVER = (
    "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4097. "
    "Given: 80125 `inputs` tokens and 4096 `max_new_tokens`"
)


def failure(status=500, body=b"", now=None, **headers):
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    return wire.failure_of(
        status, sent, content, backend="together", model="m", where="Together AI", now=now
    )


def error(message, **facts):
    return {"id": "o-1", "error": {"message": message, "type": "t", "param": None} | facts}


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (302, ServerError),
        (400, BadRequest),
        (401, AuthError),
        (402, AuthError),
        (403, AuthError),
        (404, NotFound),
        (408, TimedOut),
        (409, BadRequest),
        (413, BadRequest),
        (422, BadRequest),
        (429, RateLimited),
        (500, ServerError),
        (503, ServerError),
        (504, TimedOut),
        (520, ServerError),
        (524, TimedOut),
        (529, ServerError),
    ],
)
def test_every_status_is_one_kind_of_error(status, kind):
    """The status tells the kind; the error says who answered what, and what to do."""
    told = failure(status, error("Oh."))
    assert type(told) is kind
    assert told.message == f"Together AI answered {status}: Oh."
    assert (told.backend, told.model, told.status_code) == ("together", "m", status)
    assert told.hint or kind is BadRequest


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (400, error("Unable to access.", code="model_not_available"), NotFound),
        (404, error("Unable to access.", code="model_not_available"), NotFound),
        (400, error("No.", code="context_length_exceeded"), ContextTooLong),
        (400, error("No.", type="exceed_context_size_error", code=400), ContextTooLong),
        (400, error(OVER, param="max_tokens"), ContextTooLong),
        (403, error(OVER), ContextTooLong),
        (422, error("This model's maximum context length is 8192 tokens."), ContextTooLong),
        (400, error("Requested tokens exceed the model's context."), BadRequest),
        (500, error(OVER), ServerError),
        (500, error("No.", code="context_length_exceeded"), ServerError),
        (429, error("The tokens per minute must be <= 60000", code="x"), RateLimited),
        (400, error("Invalid number of tokens"), BadRequest),
    ],
)
def test_codes_and_known_words_tell_more_than_the_status(status, body, kind):
    """A model that is not served and a prompt that is too long are told from other refusals."""
    assert type(failure(status, body)) is kind


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (error("flat"), "flat"),
        (error({"message": "nested", "type": "BadRequestError", "code": 400}), "nested"),
        ({"error": "a string"}, "a string"),
        ({"error": None, "message": "beside"}, "beside"),
        ({"message": "no error key", "type": "t"}, "no error key"),
        ({"error": {"message": "Unauthorized"}}, "Unauthorized"),
        ({"detail": "Not Found"}, "Not Found"),
        (
            {"detail": [{"loc": ["body", "n"], "msg": "wrong"}, {"loc": ["b", 0], "msg": "bad"}]},
            "body.n: wrong; b.0: bad",
        ),
        ({"errors": [{"message": "one"}, "two"]}, "one; two"),
        ([{"error": {"message": "in a list"}}], "in a list"),
        (b"error code: 521", "error code: 521"),
        (b"<html><head><title>502 Bad Gateway</title></head>", "a web page, '502 Bad Gateway'"),
        (b"<!DOCTYPE html><p>Oh", "a web page"),
        (b"", "no reason given"),
        (b"{}", "no reason given"),
        (b"null", "no reason given"),
        (b"{", "{"),
        ({"error": {}}, "no reason given"),
        ({"error": True}, "no reason given"),
        ({"error": 17}, "17"),
        (b"\xff\xfe\xfa", "\ufffd\ufffd\ufffd"),
        (b"[" * 100_000, "[" * 200),
        (b"y" * 10_000_000, "y" * 200),
    ],
)
def test_the_message_is_found_in_every_body(body, text):
    """Objects, nested objects, strings, lists, plain text and web pages give their message."""
    assert failure(400, body).message == f"Together AI answered 400: {text}"


@pytest.mark.parametrize(
    ("body", "text"),
    [({"error": {"message": "flat"}}, "flat"), ("error code: 521", "error code: 521"), (None, "")],
)
def test_an_error_text_is_read_from_parsed_bodies(body, text):
    """The message of an error is found in what is parsed already."""
    assert wire.error_text(body) == text


def test_the_codes_of_an_error_are_kept():
    """Code, parameter and request id are on the error, wherever they stood."""
    body = error("No.", code="invalid_api_key", param="model")
    told = failure(401, body, X_Request_Id="o-2")
    assert (told.code, told.param, told.request_id) == ("invalid_api_key", "model", "o-2")
    assert failure(401, body).request_id == "o-1"
    nested = error({"message": "No.", "param": "stop", "code": "inner"}, code=None)
    assert (failure(400, nested).code, failure(400, nested).param) == ("inner", "stop")
    bare = failure(400, {"message": "No.", "code": 400})
    assert (bare.code, bare.param, bare.request_id) == (None, None, None)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry_after": "2"}, 2.0),
        ({"retry_after": "0.5"}, 0.5),
        ({"Retry_After": "2", "retry_after_ms": "1500"}, 1.5),
        ({"retry_after": "-3"}, 0.0),
        ({"retry_after": "inf"}, None),
        ({"retry_after": "nan"}, None),
        ({"retry_after": "soon"}, None),
        ({"retry_after": LATER}, 30.0),
        ({"retry_after": LATER, "date": LATER}, 0.0),
        ({"retry_after": DATE, "date": LATER}, 0.0),
        ({"x_ratelimit_reset": "5"}, 5.0),
        ({"x_ratelimit_reset": "5", "retry_after": "2"}, 2.0),
        ({"x_ratelimit_reset": str(THEN + 7)}, 7.0),
    ],
)
def test_the_wait_is_read_from_every_header(headers, seconds):
    """Milliseconds, seconds, a date or the reset of the limit tell how long to wait."""
    assert failure(429, error("Slow."), THEN, **headers).retry_after == seconds


def test_the_servers_clock_goes_before_ours():
    """A date to wait for is measured from the date of the response."""
    assert failure(429, retry_after=LATER, date=DATE).retry_after == 30.0
    assert failure(429, now=0.0, retry_after=LATER, date=DATE).retry_after == 30.0
    assert failure(429, retry_after=LATER).retry_after is None


def test_the_reset_of_a_limit_is_no_wait_for_other_failures():
    """Only a limit makes its reset a reason to wait, because every answer carries one."""
    assert failure(500, x_ratelimit_reset="5").retry_after is None
    assert failure(500, retry_after="5").retry_after == 5.0


def test_the_server_may_say_whether_to_ask_again():
    """x-should-retry goes before what the kind of error says, for that error alone."""
    assert failure(500).retryable
    assert not failure(500, X_Should_Retry="false").retryable
    assert failure(400, x_should_retry="true").retryable
    assert not failure(400, x_should_retry="perhaps").retryable
    assert failure(409).retryable
    assert not failure(409, x_should_retry="false").retryable
    assert not BadRequest.retryable
    assert ServerError.retryable


def test_words_never_decide_whether_to_ask_again():
    """A refusal that speaks of rates and overload is still a refusal."""
    for words in ("rate limit exceeded", "overloaded, try again", "timeout", OVER):
        assert not failure(400, error(words)).retryable
        assert failure(500, error(words)).retryable


def test_the_hint_tells_how_long_to_wait():
    """Where the server says when, the error repeats it."""
    assert "2 s" in failure(429, retry_after="2").hint
    assert "later" in failure(429).hint


@pytest.mark.parametrize(
    ("headers", "pause"),
    [
        ({}, None),
        ({"retry-after": "2"}, None),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-limit": "1", "x-ratelimit-reset": "2"}, 1.0),
        (
            {"x-ratelimit-remaining": "0", "x-ratelimit-limit": "0.25", "x-ratelimit-reset": "2"},
            2.0,
        ),
        ({"X-RateLimit-Remaining": "3", "x-ratelimit-limit": "1", "x-ratelimit-reset": "2"}, None),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-limit": "1", "x-ratelimit-reset": "0"}, None),
        (
            {
                "x-ratelimit-remaining-tokens": "0",
                "x-ratelimit-limit-tokens": "0",
                "x-ratelimit-reset": "2",
            },
            None,
        ),
        (
            {
                "x-ratelimit-remaining-tokens": "0",
                "x-ratelimit-limit-tokens": "3000",
                "x-ratelimit-reset": "1",
            },
            1.0,
        ),
    ],
)
def test_an_answer_that_used_up_the_limit_asks_for_a_pause(headers, pause):
    """Nothing left of a limit is a pause until one more is allowed; retry-after says nothing."""
    assert wire.pause_of(headers) == pause


HEADERS = st.dictionaries(
    st.sampled_from(
        [
            "retry-after",
            "Retry-After-Ms",
            "x-ratelimit-reset",
            "x-should-retry",
            "date",
            "x-request-id",
        ]
    ),
    st.text(max_size=12) | st.floats().map(str) | st.dates().map(str) | st.just(DATE),
)


@settings(deadline=None)  # the machine may be busy
@given(st.integers(100, 999), HEADERS, st.binary(max_size=60), st.floats(0, 1e12))
def test_any_response_is_an_error_of_the_tree(status, headers, body, now):
    """Whatever the status, the headers and the body, the result is one BackendError."""
    told = wire.failure_of(
        status, headers, body, backend=None, model=None, where="the server", now=now
    )
    assert isinstance(told, BackendError)
    assert told.retry_after is None or 0 <= told.retry_after < float("inf")
    assert str(told)
