"""Conversations of plain text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from aideon_testing.conformance.forms import check_text, check_unicode
from aideon_testing.conformance.promises import hold, promise
from aideon_testing.conformance.subject import HOWS

if TYPE_CHECKING:
    from aideon_testing.conformance.subject import Subject

_MARKS: Final = {
    "chatml": "<|im_end|>",
    "llama": "<|eot_id|>",
    "gemma": "<end_of_turn>",
}
_WORDS: Final = 500
# Longer than what templates say of themselves where there is no system message.
_SYSTEM: Final = (
    "You are a pirate on a small ship far from any harbour, and you have not seen land for "
    "forty days. Speak as pirates do, call everybody matey, never tell anyone where the "
    "treasure is, and complain about the weather, the food, the parrot and the crew. Whatever "
    "you are asked, answer in one short sentence, and never in more than twelve words."
)


class TextBodies:
    """Text in, text out."""

    @promise(how=HOWS)
    def test_plain_text(self, subject: Subject, how: str) -> None:
        """A prompt is answered with text, a finish reason and the model that answered."""
        answer = subject.ask("Name three primes.", how).completion
        check_text(answer)
        hold(answer.model, "Nobody says which model answered.")

    @promise(how=HOWS)
    def test_system_message(self, subject: Subject, how: str) -> None:
        """A system message is taken, and read: it counts among the input tokens."""
        turns = [
            {"role": "system", "content": _SYSTEM},
            {"role": "user", "content": "Who are you?"},
        ]
        answer, bare = subject.ask(turns, how).completion, subject.ask(turns[1:], how).completion
        check_text(answer)
        if answer.usage and bare.usage:
            hold(
                answer.usage.input_tokens > bare.usage.input_tokens,
                f"{answer.usage.input_tokens} input tokens with the system message and "
                f"{bare.usage.input_tokens} without: it was dropped.",
            )

    @promise(how=HOWS)
    def test_many_turns(self, subject: Subject, how: str) -> None:
        """A conversation of several turns goes on from its last one."""
        turns = [
            {"role": "user", "content": "My name is Ada."},
            {"role": "assistant", "content": "Hello, Ada."},
            {"role": "user", "content": "I live in Oslo."},
            {"role": "assistant", "content": "A fine city."},
            {"role": "user", "content": "What is my name?"},
        ]
        check_text(subject.ask(turns, how).completion)

    @promise()
    def test_two_users_in_a_row(self, subject: Subject) -> None:
        """Two messages of one role after each other are answered, whatever the template says."""
        turns = [{"role": "user", "content": each} for each in ("One question.", "2 + 2?")]
        check_text(subject.ask(turns).completion)

    @promise()
    def test_content_parts(self, subject: Subject) -> None:
        """A message in parts of text is read as its text: it costs the same input tokens."""
        parts = [{"type": "text", "text": "Name three "}, {"type": "text", "text": "primes."}]
        answer = subject.ask([{"role": "user", "content": parts}]).completion
        plain = subject.ask("Name three primes.").completion
        check_text(answer)
        if answer.usage and plain.usage:
            # A cut between the parts may cost a token.
            apart = abs(answer.usage.input_tokens - plain.usage.input_tokens)
            hold(apart <= len(parts), f"Parts and text are {apart} input tokens apart.")

    @promise(how=HOWS)
    def test_unicode(self, subject: Subject, how: str) -> None:
        """Characters of every plane go in and come out whole, in every piece of a stream."""
        answer = subject.ask("Repeat exactly: Grüße, 漢字, नमस्ते, 🦔👩‍👩‍👧.", how, max_tokens=60)
        check_text(answer.completion)
        *pieces, last = [chunk.text for chunk in answer.chunks if chunk.text] or [""]
        for piece in pieces:
            check_unicode(piece)
        # A limit may fall inside of a character.
        cut = "\ufffd" if answer.completion.finish_reason == "length" else ""
        check_unicode(last.removesuffix(cut))
        check_unicode(answer.completion.text.removesuffix(cut))

    @promise(how=HOWS)
    def test_long_input(self, subject: Subject, how: str) -> None:
        """A long message is read to its end: every word of it is among the input tokens."""
        words = " ".join(f"word{number % 10}" for number in range(_WORDS))
        answer = subject.ask(f"{words}\n\nWhat was the last word?", how, max_tokens=20).completion
        check_text(answer)
        if answer.usage:
            hold(
                answer.usage.input_tokens >= _WORDS,
                f"{_WORDS} words came to {answer.usage.input_tokens} input tokens.",
            )

    @promise(family=tuple(_MARKS))
    def test_control_tokens_are_text(self, subject: Subject, family: str) -> None:
        """A control token spelt in a message is text of several tokens, and ends no turn."""
        mark, times = _MARKS[family], 20
        counted = [
            subject.ask(f"What is this? {mark * number}", max_tokens=20).completion.usage
            for number in (1, 1 + times)
        ]
        once, often = counted
        subject.only_if(once and often, "tokens are not counted")
        assert once
        assert often
        more = often.input_tokens - once.input_tokens
        hold(
            more > times, f"{times} times {mark!r} came to {more} tokens: they are control tokens."
        )
