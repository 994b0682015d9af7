"""Streams, and what they have in common with whole answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aideon_core.types import Usage
from aideon_testing.conformance.forms import check_stream, check_text
from aideon_testing.conformance.promises import hold, promise
from aideon_testing.conformance.shapes import shape_of
from aideon_testing.conformance.subject import HOWS

if TYPE_CHECKING:
    from aideon_testing.conformance.subject import Answer, Subject

_PROMPT = "Name three primes."


class StreamingBodies:
    """Pieces, and the order they come in."""

    @promise()
    def test_chunks_come_in_order(self, subject: Subject) -> None:
        """Finish reason, usage, cost and route come once, on the last chunk of a stream."""
        answer = subject.ask(_PROMPT, "streamed")
        check_text(answer.completion)
        check_stream(answer)
        last = answer.chunks[-1]
        hold(last.finish_reason and last.route, f"The last chunk does not end it: {last!r}")

    @promise(how=HOWS)
    def test_usage(self, subject: Subject, how: str) -> None:
        """Tokens are counted, in a stream exactly once, on its last chunk."""
        answer = subject.ask(_PROMPT, how)
        usage = answer.completion.usage
        hold(isinstance(usage, Usage), f"The usage is {usage!r}.")
        assert usage is not None
        hold(usage.input_tokens > 0 and usage.output_tokens > 0, f"Nothing was counted: {usage!r}")
        hold(usage.cached_tokens <= usage.input_tokens, f"More cached than read: {usage!r}")
        if answer.chunks:
            told = [index for index, chunk in enumerate(answer.chunks) if chunk.usage is not None]
            hold(told == [len(answer.chunks) - 1], f"Usage came on the chunks {told}.")

    @promise()
    def test_usage_is_the_same_whole_and_streamed(self, subject: Subject) -> None:
        """A prompt costs the same input tokens whole and streamed."""
        one, other = (subject.ask(_PROMPT, how).completion.usage for how in HOWS)
        hold(one and other, f"Tokens were not counted: {one!r} whole, {other!r} streamed.")
        assert one
        assert other
        hold(one.input_tokens == other.input_tokens, f"{one!r} whole, {other!r} streamed.")

    @promise()
    def test_streamed_and_whole_have_the_same_fields(self, subject: Subject) -> None:
        """The chunks of a stream join to an answer with the fields of a whole one."""
        whole, streamed = (_shape(subject.ask(_PROMPT, how)) for how in HOWS)
        hold(whole == streamed, f"{whole!r} whole, {streamed!r} streamed.")

    @promise()
    def test_streamed_and_whole_say_the_same(self, subject: Subject) -> None:
        """At temperature 0, a stream says word for word what a whole answer says."""
        subject.only_if(subject.repeats, "answers do not repeat")
        whole, streamed = (subject.ask(_PROMPT, how, seed=7).completion for how in HOWS)
        hold(whole.text == streamed.text, f"{whole.text!r} whole, {streamed.text!r} streamed.")
        hold(
            whole.finish_reason == streamed.finish_reason,
            f"{whole.finish_reason!r} whole, {streamed.finish_reason!r} streamed.",
        )

    @promise(how=HOWS)
    def test_sync_and_async_are_twins(self, subject: Subject, how: str) -> None:
        """Awaiting clients get answers of the same shape, and streams in the same order."""
        blocking, awaiting = subject.ask(_PROMPT, how), subject.ask_awaiting(_PROMPT, how)
        check_text(awaiting.completion)
        one, other = shape_of(blocking), shape_of(awaiting)
        hold(one == other, f"{one!r} blocking, {other!r} awaiting.")


def _shape(answer: Answer) -> dict[str, str]:
    return {name: value for name, value in shape_of(answer).items() if name != "stream"}
