"""What bounds and steers an answer: stops, limits, seeds, probabilities."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, cast

from aideon_testing.conformance.forms import check_text
from aideon_testing.conformance.promises import hold, promise
from aideon_testing.conformance.subject import HOWS

if TYPE_CHECKING:
    from aideon_core.types import Completion
    from aideon_testing.conformance.promises import Feature
    from aideon_testing.conformance.subject import Answer, Subject

_STORY = "Tell a long story about a hedgehog."
_FEW = 7
_EXTRAS: Final = {
    "top_k": 20,
    "min_p": 0.05,
    "repetition_penalty": 1.1,
    "logit_bias": {100: -1.0},
}


class SamplingBodies:
    """The parameters of an answer."""

    @promise(how=HOWS)
    def test_stop_strings_are_never_shown(self, subject: Subject, how: str) -> None:
        """A stop string ends the answer before it, also where it comes in two pieces."""
        free = subject.ask(_STORY, "streamed", max_tokens=60, seed=7)
        stop = _across_pieces(free)
        subject.only_if(stop, "the answer is too short to be stopped")
        answer = subject.ask(
            _STORY, how, max_tokens=60, seed=7, stop=[stop, "\n\n\nnever"]
        ).completion
        hold(stop not in answer.text, f"The stop string {stop!r} was shown: {answer.text!r}")
        if subject.repeats:
            expected = free.completion.text.partition(stop)[0]
            hold(answer.text == expected, f"{answer.text!r} came and {expected!r} was due.")
            hold(answer.finish_reason == "stop", f"It ended with {answer.finish_reason!r}.")

    @promise(how=HOWS)
    def test_max_tokens_is_exact(self, subject: Subject, how: str) -> None:
        """An answer cut off by max_tokens has that many tokens, and ends with "length"."""
        answer = subject.ask(_STORY, how, max_tokens=_FEW).completion
        hold(answer.finish_reason == "length", f"It ended with {answer.finish_reason!r}.")
        counted = answer.usage and answer.usage.output_tokens
        hold(counted == _FEW, f"{counted} output tokens came with max_tokens={_FEW}.")

    @promise(how=HOWS)
    def test_one_token(self, subject: Subject, how: str) -> None:
        """max_tokens=1 is one token, and not an error."""
        answer = subject.ask(_STORY, how, max_tokens=1).completion
        hold(answer.finish_reason == "length", f"It ended with {answer.finish_reason!r}.")

    @promise()
    def test_a_seed_repeats(self, subject: Subject) -> None:
        """The same seed gives the same answer, at a temperature where others would differ."""
        subject.only_if(subject.repeats, "answers do not repeat")
        params: dict[str, Any] = {"seed": 11, "temperature": 1.0, "max_tokens": 20}
        one, other = (subject.ask(_STORY, **params).completion.text for _ in range(2))
        hold(one == other, f"{one!r}, and then {other!r}.")

    @promise()
    def test_sampling_parameters_are_taken_together(self, subject: Subject) -> None:
        """Temperature, top_p, penalties, a seed, a stop and a limit go into one request."""
        answer = subject.ask(
            _STORY,
            temperature=0.7,
            top_p=0.9,
            presence_penalty=0.1,
            frequency_penalty=0.1,
            seed=3,
            stop="\n\n\nnever",
            max_tokens=10,
        )
        check_text(answer.completion)

    @promise(name=tuple(_EXTRAS))
    def test_open_models_parameters(self, subject: Subject, name: str) -> None:
        """A parameter that only some servers know is followed or refused, never dropped."""
        subject.needs(cast("Feature", name))
        params: dict[str, Any] = {name: _EXTRAS[name]}
        check_text(subject.ask(_STORY, temperature=0.7, max_tokens=10, **params).completion)

    @promise("prefix", how=HOWS)
    def test_an_answer_goes_on_from_a_prefix(self, subject: Subject, how: str) -> None:
        """The answer goes on from the prefix, and what is there already is not said again."""
        prefix = "Once upon a time there was a hedgehog who"
        answer = subject.ask(_STORY, how, prefix=prefix, max_tokens=10).completion
        check_text(answer)
        hold(not answer.text.startswith(prefix), f"The prefix was said again: {answer.text!r}")

    @promise("logprobs", how=HOWS)
    def test_logprobs(self, subject: Subject, how: str) -> None:
        """Every token of the text has its logprob, with as many alternatives as were asked for."""
        answer = subject.ask(_STORY, how, max_tokens=8, logprobs=True, top_logprobs=2).completion
        _check_logprobs(answer, most=2)

    @promise("logprobs")
    def test_logprobs_come_only_when_asked_for(self, subject: Subject) -> None:
        """An answer has no logprobs that nobody wanted."""
        asked = subject.ask(_STORY, max_tokens=4, logprobs=True, top_logprobs=1).completion
        hold(asked.logprobs, "None came.")
        unasked = subject.ask(_STORY, max_tokens=4).completion.logprobs
        hold(not unasked, f"They came unasked: {unasked!r}")

    @promise("n")
    def test_alternatives(self, subject: Subject) -> None:
        """n=2 gives two answers, each with its text and its finish reason."""
        answer = subject.ask(_STORY, n=2, max_tokens=8, temperature=1.0).completion
        for each in _both(answer):
            check_text(each)

    @promise("n")
    def test_alternatives_are_streamed_by_index(self, subject: Subject) -> None:
        """With n=2, a chunk tells by its index which answer it goes on with."""
        answer = subject.ask(_STORY, "streamed", n=2, max_tokens=8, temperature=1.0)
        indexes = {getattr(chunk, "index", None) for chunk in answer.chunks}
        hold(indexes == {0, 1}, f"The chunks have the indexes {indexes}.")
        for index, each in enumerate(_both(answer.completion)):
            said = "".join(c.text for c in answer.chunks if getattr(c, "index", 0) == index)
            hold(said == each.text, f"{said!r} was streamed, and {each.text!r} is the answer.")


def _across_pieces(answer: Answer) -> str:
    """A part of the text that no piece holds whole, from the middle; the text has pieces."""
    pieces = [chunk.text for chunk in answer.chunks if chunk.text]
    whole = answer.completion.text
    stop: str
    middle = len(pieces) // 2
    for at in [*range(middle, len(pieces)), *range(1, middle)]:
        stop = pieces[at - 1][-2:] + pieces[at][:2]
        if at and stop.strip() and whole.find(stop) > 0:
            return stop
    return whole[len(whole) // 2 :][:3].strip()


def _check_logprobs(answer: Completion, most: int) -> None:
    hold(answer.logprobs, "No logprobs came.")
    # Some engines tell the token that ended the answer as well.
    joined = "".join(token.token for token in answer.logprobs)
    hold(joined.startswith(answer.text), f"Their tokens join to {joined!r}, not {answer.text!r}.")
    for token in answer.logprobs:
        hold(token.logprob <= 0, f"A probability is above 1: {token!r}")
        hold(1 <= len(token.top) <= most, f"{len(token.top)} alternatives came of {most}.")
        told = [logprob for _, logprob in token.top]
        hold(told == sorted(told, reverse=True), f"The likeliest is not first: {token!r}")


def _both(answer: Completion) -> tuple[Completion, Completion]:
    alternatives: tuple[Completion, ...] = getattr(answer, "alternatives", ())
    hold(len(alternatives) == 1, f"Beside the answer came {len(alternatives)} others, not one.")
    return answer, alternatives[0]
