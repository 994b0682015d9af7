"""Refusals and failures: every body and header to one error of the tree."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any, Final

from aideon_core.backends.wire.values import excerpt, mapping, parsed, text
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

if TYPE_CHECKING:
    from collections.abc import Mapping

_BY_STATUS: Final[Mapping[int, type[BackendError]]] = {
    401: AuthError,
    402: AuthError,
    403: AuthError,
    404: NotFound,
    408: TimedOut,
    429: RateLimited,
    504: TimedOut,
    524: TimedOut,
}
# A model that exists but is not serverless is a 400 with the code of an unknown one.
_BY_CODE: Final[Mapping[str, type[BackendError]]] = {
    "model_not_available": NotFound,
    "model_not_found": NotFound,
    "context_length_exceeded": ContextTooLong,
    "exceed_context_size_error": ContextTooLong,
}
_HINTS: Final[Mapping[type[BackendError], str]] = {
    AuthError: "Check the key and the account it belongs to.",
    NotFound: "Check the name of the model; case matters.",
    RateLimited: "Ask again later, or allow another backend to answer.",
    ServerError: "It may pass: ask again later, or allow another backend to answer.",
    TimedOut: "Ask for a shorter answer, or allow another backend to answer.",
    ContextTooLong: "Shorten the messages, lower max_tokens, or use a model with a larger context.",
}
_FIRST_REFUSAL, _FIRST_SERVER_ERROR, _CONFLICT = 400, 500, 409
# The wire has no code of its own for it, so the engines' words have to tell.
_TOO_LONG_FOR: Final = frozenset({400, 403, 413, 422})
_OVER_CONTEXT: Final = re.compile(
    r"tokens.{0,80}must be <= ?\d"
    r"|maximum context length"
    r"|longer than the (?:model's context|maximum model) length"
    r"|exceeds the (?:available|model's(?: maximum)?) context"
    r"|context (?:length|window|size) (?:was |is )?exceeded",
    re.IGNORECASE,
)
_TITLE: Final = re.compile(r"<title[^>]*>([^<]*)</title>", re.IGNORECASE)
# What is left and what is allowed, by the names recorded and the name documented; whether one
# is one request, or a token of many. The dynamic ones forbid nothing: good answers say that
# none are left, one after the other.
_LIMITS: Final = (
    ("x-ratelimit-remaining", "x-ratelimit-limit", True),
    ("x-ratelimit-remaining-tokens", "x-ratelimit-limit-tokens", False),
    ("x-tokenlimit-remaining", "x-tokenlimit-limit", False),
)
_SEARCHED: Final = 4096
_MOST_TEXT: Final = 1000
_MOST_TEXTS: Final = 5
# Seconds above this are a time of day.
_AN_EPOCH: Final = 1e9


def failure_of(
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    *,
    backend: str | None,
    model: str | None,
    where: str,
    now: float | None = None,
) -> BackendError:
    """The error that a response without success stands for.

    What it is comes from the status and the code. Whether asking again may help comes from
    that, or from the server's own word in ``x-should-retry``; never from the text.

    Args:
        status: the HTTP status.
        headers: the response's headers, in any case.
        body: the response's body, of any kind.
        backend: the name of the backend that was asked.
        model: the model that was asked for.
        where: who answered, for the message.
        now: seconds since 1970, to read a date to wait for; the server's own clock goes first.
    """
    headers = {name.lower(): value for name, value in headers.items()}
    content = _content(body)
    told = error_text(content) or "no reason given"
    facts = _facts(content)
    kind = _kind(status, told, facts)
    wait = _retry_after(headers, kind, now)
    hint = _HINTS.get(kind, "")
    if kind is RateLimited and wait:
        hint = f"Ask again in {wait:g} s, or allow another backend to answer."
    error = kind(
        f"{where} answered {status}: {told}",
        hint=hint,
        backend=backend,
        model=model,
        status_code=status,
        code=facts.get("code") or facts.get("error_type"),
        type=facts.get("type"),
        param=facts.get("param"),
        request_id=headers.get("x-request-id") or text(mapping(content).get("id")) or None,
        retry_after=wait,
    )
    if status < _FIRST_REFUSAL:
        # It will point elsewhere the next time too.
        error.retryable = False
        error.hint = "Check base_url=: " + _pointed(headers.get("location"))
    should_retry = headers.get("x-should-retry")
    if should_retry in ("true", "false"):
        error.retryable = should_retry == "true"
    elif status == _CONFLICT:
        error.retryable = True
    return error


def _pointed(location: str | None) -> str:
    return f"the server points to {location[:_MOST_TEXT]}." if location else "it is a page."


def error_text(body: object) -> str:
    """The message in an error body of any of the shapes seen: object, nested, text, lists."""
    waiting, found = [body], list[str]()
    while waiting and len(found) < _MOST_TEXTS:
        part = waiting.pop()
        if isinstance(part, list):
            waiting.extend(reversed(part[:_MOST_TEXTS]))
        elif isinstance(part, dict):
            waiting.append(_inner(part))
        elif isinstance(part, str) or (isinstance(part, int) and not isinstance(part, bool)):
            found.append(str(part)[:_MOST_TEXT].strip())
    return "; ".join(each for each in found if each)


def _inner(part: Mapping[str, Any]) -> object:
    """Where the message of an object is: in one of its fields, or nowhere."""
    if "msg" in part and isinstance(part.get("loc"), list):
        place = ".".join(str(each) for each in part["loc"][:_MOST_TEXTS] if _is_plain(each))
        return f"{place}: {text(part['msg'])}"
    names = ("error", "message", "detail", "errors", "msg")
    return next((part[name] for name in names if part.get(name)), None)


def pause_of(headers: Mapping[str, str]) -> float | None:
    """Seconds until more may be asked, of an answer that used up what was allowed.

    ``retry-after`` does not say so: it is on every good answer. Limits are per second and may
    be fractions: one request every six seconds is 0.1666666667.

    Args:
        headers: the response's; names in lower case, or a mapping that does not mind.
    """
    for left, limit, one in _LIMITS:
        if _number(headers.get(left)) != 0:
            continue
        reset = _number(headers.get("x-ratelimit-reset"))
        allowed = _number(headers.get(limit))
        # Nothing left of nothing is no limit: some models have none for tokens.
        if not allowed or reset == 0:
            continue
        # One more request is allowed long before all of them are.
        waits = (reset, 1 / allowed if one else None)
        return min((wait for wait in waits if wait is not None), default=None)
    return None


def interval_of(headers: Mapping[str, str]) -> float:
    """Seconds between two requests at the limit that a response tells, 0 when it tells none."""
    allowed = _number(headers.get("x-ratelimit-limit"))
    return 1 / allowed if allowed else 0.0


def _content(body: bytes) -> object:
    try:
        return parsed(body)
    except ServerError:
        # The edge before the service answers in plain text, or with a page.
        if b"<html" not in body[:_SEARCHED].lower() and b"<!doctype" not in body[:64].lower():
            return excerpt(body)
    page = _TITLE.search(body[:_SEARCHED].decode("utf-8", "replace"))
    title = page[1].strip() if page else ""
    return f"a web page, {title!r}" if title else "a web page"


def _facts(content: object) -> dict[str, str]:
    """The code, the parameter and the type of an error, the outermost first."""
    facts: dict[str, str] = {}
    part = content
    while isinstance(part, dict):
        for name in ("code", "param", "type", "error_type"):
            if value := text(part.get(name)):
                facts.setdefault(name, value)
        part = part.get("error") or part.get("message")
    return facts


def _kind(status: int, told: str, facts: Mapping[str, str]) -> type[BackendError]:
    # A redirect comes from a wrong address or a page to sign in, not from the service.
    refused = _FIRST_REFUSAL <= status < _FIRST_SERVER_ERROR
    for name in ("code", "type"):
        if refused and facts.get(name) in _BY_CODE:
            return _BY_CODE[facts[name]]
    if status in _TOO_LONG_FOR and _OVER_CONTEXT.search(told):
        return ContextTooLong
    return _BY_STATUS.get(status, BadRequest if refused else ServerError)


def _retry_after(
    headers: Mapping[str, str], kind: type[BackendError], now: float | None
) -> float | None:
    clock = _time(headers.get("date")) or now
    wait = _number(headers.get("retry-after-ms"))
    if wait is not None:
        return wait / 1000
    wait = _number(headers.get("retry-after"))
    if wait is None and clock is not None:
        until = _time(headers.get("retry-after"))
        wait = max(0.0, until - clock) if until is not None else None
    if wait is None and kind is RateLimited:
        wait = _number(headers.get("x-ratelimit-reset"))
        if wait is not None and wait > _AN_EPOCH:
            wait = max(0.0, wait - clock) if clock is not None else None
    return wait


def _number(header: str | None) -> float | None:
    try:
        seconds = float(header or "")
    except ValueError:
        return None
    return max(0.0, seconds) if math.isfinite(seconds) else None


def _time(header: str | None) -> float | None:
    from email.utils import parsedate_to_datetime

    try:
        return parsedate_to_datetime(header or "").timestamp()
    except (ValueError, OverflowError):
        return None


def _is_plain(value: object) -> bool:
    return isinstance(value, str | int)
