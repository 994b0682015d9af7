"""Requests that cannot be answered, and the errors that say so."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from aideon_core.errors import AideonError, BadRequest, ContextTooLong, TimedOut
from aideon_testing.conformance.forms import check_text
from aideon_testing.conformance.promises import Broken, hold, promise
from aideon_testing.conformance.subject import HOWS

if TYPE_CHECKING:
    from collections.abc import Callable

    from aideon_testing.conformance.subject import Subject

_EMPTY: Final[dict[str, Any]] = {
    "no-text": "",
    "space": " ",
    "empty-system": [{"role": "system", "content": ""}, {"role": "user", "content": "Hello."}],
}
_BAD: Final[dict[str, tuple[Any, dict[str, Any]]]] = {
    "no-messages": ([], {}),
    "unknown-role": ([{"role": "wizard", "content": "Hello."}], {}),
    "no-content": ([{"role": "user", "content": 7}], {}),
    "temperature": ("Hello.", {"temperature": 9}),
    "max_tokens": ("Hello.", {"max_tokens": 0}),
    "tool_choice": ("Hello.", {"tool_choice": "perhaps"}),
    "unknown-parameter": ("Hello.", {"temprature": 0.5}),
}


class ErrorBodies:
    """Errors of one tree, and a backend that outlives them."""

    @promise(wrong=tuple(_BAD), how=HOWS)
    def test_bad_requests(self, subject: Subject, wrong: str, how: str) -> None:
        """What is wrong as it stands is a BadRequest that says what to do."""
        messages, params = _BAD[wrong]
        error = _error(lambda: subject.ask(messages, how, **params))
        hold(isinstance(error, BadRequest), f"{type(error).__name__} came: {error}")
        hold(error.message, "The error says nothing.")

    @promise(empty=tuple(_EMPTY), how=HOWS)
    def test_empty_input(self, subject: Subject, empty: str, how: str) -> None:
        """Nothing to answer is answered or refused, and never a crash."""
        try:
            answer = subject.ask(_EMPTY[empty], how, max_tokens=8)
        except BadRequest as error:
            hold(error.message, "The error says nothing.")
        else:
            hold(answer.completion.finish_reason, f"It did not end: {answer.completion!r}")

    @promise(how=HOWS)
    def test_too_long_a_prompt(self, subject: Subject, how: str) -> None:
        """A prompt beyond the context is ContextTooLong, and the next one is answered."""
        subject.only_if(subject.context_tokens, "the length of the context is not known")
        assert subject.context_tokens
        words = "word " * (subject.context_tokens + 1)
        error = _error(lambda: subject.ask(words, how))
        hold(isinstance(error, ContextTooLong), f"{type(error).__name__} came: {error}")
        check_text(subject.ask("Name a prime.", max_tokens=4).completion)

    @promise(how=HOWS)
    def test_deadlines(self, subject: Subject, how: str) -> None:
        """A deadline that cannot be met is TimedOut, and the next request is answered."""
        try:
            subject.ask("Tell a long story.", how, max_tokens=1000, deadline=0.001)
        except TimedOut:
            pass
        except AideonError as error:
            hold(isinstance(error.__cause__, TimedOut), f"{type(error).__name__} came: {error}")
        else:
            raise Broken("A long answer came within a millisecond.")
        check_text(subject.ask("Name a prime.", max_tokens=4).completion)


def _error(work: Callable[[], object]) -> AideonError:
    try:
        came = work()
    except AideonError as error:
        return error
    raise Broken(f"An answer came, and an error was due: {came!r}")
