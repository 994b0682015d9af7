"""Scripts and faults that cannot work are errors where they are written."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aideon_core.types import ToolCall
from aideon_testing import Failure, LoopbackTogether, Match, Reply, Script, faults

NO_TEXTS = st.none() | st.integers() | st.binary() | st.lists(st.text())
NO_FAULTS = ["x", 5, faults.Malformed, Failure, Failure.rate_limited, ValueError()]


@given(wrong=NO_TEXTS)
def test_only_texts_are_said(wrong):
    """What is no text is refused by say and by Reply, with what to do."""
    script = Script()
    with pytest.raises(TypeError, match="give a text"):
        script.say("right", wrong)
    with pytest.raises(TypeError, match="give a text"):
        Reply(wrong)
    with pytest.raises(TypeError, match="give a text"):
        script.call(wrong)
    assert len(script) == 0


@pytest.mark.parametrize("wrong", ["x", 5, None, Reply, Failure.server_error()])
def test_only_replies_are_replied(wrong):
    """A text has a method of its own, and the error names it."""
    script = Script()
    with pytest.raises(TypeError, match=r"give a Reply; for a text there is say\(\)"):
        script.reply(Reply("right"), wrong)
    assert len(script) == 0


@pytest.mark.parametrize("wrong", [ValueError(), Failure.rate_limited, Failure, "x", None])
def test_only_failures_are_failed_with(wrong):
    """A failure that was not called is told apart from one that was."""
    script = Script()
    with pytest.raises(TypeError, match=r"made by calling, such as Failure.rate_limited\(\)"):
        script.fail(Failure.server_error(), wrong)
    assert len(script) == 0


@pytest.mark.parametrize(
    "wrong",
    [{"reasoning": 5}, {"tool_calls": ("f",)}, {"failure": ValueError()}, {"failure": "x"}],
)
def test_the_parts_of_a_reply_are_what_they_should_be(wrong: dict[str, Any]):
    """A reply that the server could not send cannot be made, nor changed into one."""
    with pytest.raises(TypeError, match="; give "):
        Reply("Hi.", **wrong)
    right = Reply("Hi.", reasoning="So.", tool_calls=(ToolCall("", "f", "{}"),))
    with pytest.raises(TypeError, match="; give "):
        replace(right, **wrong)


def put(server: LoopbackTogether, *some: Any) -> list[Any]:
    """Every way to put faults into a server."""
    put_in = server.faults
    return [
        lambda: put_in.next(*some),
        lambda: put_in.always(*some),
        lambda: put_in.every(2, *some),
        lambda: put_in.randomly(0.5, *some),
        lambda: put_in.sequence(*some),
    ]


@pytest.mark.parametrize("wrong", NO_FAULTS, ids=repr)
def test_only_faults_are_put(wrong):
    """What is no fault is named, and a class or a method is told to be called."""
    advice = r"call it: \w+(\.\w+)?\(\)" if callable(wrong) else "give one, such as"
    for way in put(LoopbackTogether(), Failure.server_error(), wrong):
        with pytest.raises(TypeError, match=advice):
            way()


def test_only_a_sequence_spares_requests():
    """None stands for a request without a fault in a sequence, and for nothing elsewhere."""
    *others, sequence = put(LoopbackTogether(), None, Failure.server_error())
    assert sequence().met == 0
    for way in others:
        with pytest.raises(TypeError, match="None is no fault"):
            way()


def test_no_faults_are_an_error():
    """A call that puts nothing before any request is a mistake, however it is made."""
    for way in put(LoopbackTogether()):
        with pytest.raises(ValueError, match="There is no fault to put"):
            way()


@pytest.mark.parametrize("times", [0, -1])
def test_faults_come_at_least_once(times):
    """Less than one time is never meant."""
    with pytest.raises(ValueError, match="at least 1"):
        LoopbackTogether().faults.next(Failure.server_error(), times=times, on=Match())
