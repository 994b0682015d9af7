"""The error tree."""

from __future__ import annotations

import inspect
import pickle

import httpx2
import pytest

from aideon_core import errors, transport
from aideon_core.errors import AideonError, AllBackendsFailed, AuthError, ConfigError, TimedOut

CLASSES = [
    each for _, each in inspect.getmembers(errors, inspect.isclass) if issubclass(each, AideonError)
]


def test_the_tree_at_the_top_of_the_file_is_the_tree():
    """Every error class is in the drawing that opens errors.py, and no other name is."""
    drawn = {
        line.lstrip("│├└─ ").split()[0]
        for line in errors.__doc__.splitlines()
        if line.lstrip("│├└─ ") and ("─" in line or line == "AideonError")
    }
    assert drawn == {each.__name__ for each in CLASSES}


@pytest.mark.parametrize("kind", [c for c in CLASSES if c is not AllBackendsFailed])
def test_an_error_survives_pickling_with_its_facts(kind):
    """Errors cross process borders whole: message, hint, facts."""
    error = kind("It broke.", hint="Mend it.", backend="together", status_code=500)
    copy = pickle.loads(pickle.dumps(error))
    assert str(copy) == "It broke. Mend it."
    assert copy.status_code == 500


def test_a_group_can_be_caught_by_cause_and_pickled():
    """AllBackendsFailed works with except*, and keeps its type when it is split."""
    group = AllBackendsFailed("Nobody.", [TimedOut("slow"), AuthError("no")])
    assert isinstance(group.subgroup(TimedOut), AllBackendsFailed)
    assert [str(e) for e in pickle.loads(pickle.dumps(group)).exceptions] == ["slow", "no"]


HTTP_ERRORS = [
    each
    for _, each in inspect.getmembers(httpx2, inspect.isclass)
    if issubclass(each, httpx2.TransportError | httpx2.RequestError | httpx2.InvalidURL)
]


@pytest.mark.parametrize("kind", HTTP_ERRORS)
def test_every_error_of_the_http_library_is_one_of_ours(kind):
    """Nothing the HTTP library raises for a request escapes under its own name."""
    ours = pytest.raises(AideonError, match="http://host")
    with ours as raised, transport.normalized("http://host", backend="together", model="m"):
        raise kind("gone")
    # The one that repeats the header at fault, which may hold the key, is left out.
    told = () if issubclass(kind, httpx2.LocalProtocolError) else (kind,)
    assert isinstance(raised.value.__cause__, told or type(None))
    assert raised.value.backend == "together" or isinstance(raised.value, ConfigError)


def test_programmer_errors_pass_untouched():
    """A TypeError in our own code is never dressed up as a network failure."""
    with pytest.raises(TypeError), transport.normalized("http://host"):
        raise TypeError
