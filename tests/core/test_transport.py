"""HTTP errors become errors of the tree, and nothing else does."""

from __future__ import annotations

import asyncio
import inspect

import httpx
import httpx2
import pytest

from aideon_core import transport
from aideon_core.errors import AideonError, ConfigError, ConnectFailed, TimedOut

LIBRARIES = (httpx, httpx2)


def every_error(library):
    members = (getattr(library, name) for name in dir(library))
    return sorted(
        (each for each in members if inspect.isclass(each) and issubclass(each, Exception)),
        key=lambda each: each.__name__,
    )


def made(kind):
    """An instance, whatever its constructor asks for."""
    parameters = inspect.signature(kind.__init__).parameters
    given = {"message": "it broke"} if "message" in parameters else {}
    for name in ("request", "response"):
        if name in parameters and parameters[name].default is inspect.Parameter.empty:
            given[name] = None
    return kind(**given)


@pytest.mark.parametrize(
    "kind",
    [each for library in LIBRARIES for each in every_error(library)],
    ids=lambda kind: f"{kind.__module__}.{kind.__name__}",
)
def test_every_error_of_the_http_libraries_has_its_place(kind):
    """Whatever httpx2 or httpx can raise becomes an error of the tree that says who and what."""
    with (
        pytest.raises(AideonError) as raised,
        transport.normalized("http://there", backend="together", model="m"),
    ):
        raise made(kind)
    assert "http://there" in raised.value.message
    assert (raised.value.backend, raised.value.model) == ("together", "m")


def test_there_are_errors_to_map():
    """The list above is not empty by accident."""
    assert len(every_error(httpx2)) > 20


class Derived(httpx2.ReadTimeout):
    """An error of somebody who builds on the library."""


def test_errors_derived_from_the_librarys_count_as_theirs():
    """A subclass made elsewhere is mapped as its nearest known parent."""
    with pytest.raises(TimedOut), transport.normalized("http://there"):
        raise Derived("late")


@pytest.mark.parametrize(
    "kind", [ValueError, TypeError, KeyError, RuntimeError, AssertionError, asyncio.CancelledError]
)
def test_programmer_errors_pass_untouched(kind):
    """A bug stays the exception it is."""
    error = kind("a bug")
    with pytest.raises(kind) as raised, transport.normalized("http://there"):
        raise error
    assert raised.value is error


def test_what_can_be_retried_is_what_may_pass():
    """A broken connection may be tried again, a wrong address may not."""
    for error, ours in (
        (httpx2.ReadError("cut"), ConnectFailed),
        (httpx2.UnsupportedProtocol("ftp"), ConfigError),
    ):
        with pytest.raises(ours) as raised, transport.normalized("http://there"):
            raise error
        assert raised.value.retryable is (ours is ConnectFailed)
