"""What a plan does with an answer that has to have a form: read it, ask once more for it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from aideon_core.errors import InvalidOutput
from aideon_core.types import Message

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet

    from aideon_core.routing import Ability
    from aideon_core.types import Completion, Request


def first_asked(request: Request, abilities: AbstractSet[Ability]) -> Request:
    """The request as it is sent first to a backend of these abilities.

    A form that binds the model keeps it from calling tools, so while tools are on offer the
    form is in the prompt alone, and is checked here; unless the backend leaves the model the
    choice between the two.
    """
    if request.output is None or not request.tools or request.tool_choice == "none":
        return request
    return request if "json_with_tools" in abilities else replace(request, response_format=None)


def read(request: Request, completion: Completion) -> Completion:
    """The completion with the value it stands for; one that calls tools stays without.

    The alternatives get theirs too; one that cannot be read is no reason to throw the others
    away, so it stays without, and the completion's warnings tell why. They also tell of
    answers that were asked for and did not come.

    Raises:
        InvalidOutput: its text does not have the form that was asked for.
    """
    came = 1 + len(completion.alternatives)
    if came < (request.n or 1):
        short = f"{request.n} answers were asked for, and {came} came."
        completion = replace(completion, warnings=(*completion.warnings, short))
    if request.output is None:
        return completion
    try:
        completion = _valued(request, completion)
    except InvalidOutput as error:
        error.completion = completion
        raise
    return _alternatives_valued(request, completion)


def _valued(request: Request, completion: Completion) -> Completion:
    if completion.tool_calls or request.output is None:
        return completion
    text = (request.prefix or "") + completion.text
    try:
        value = request.output.read(text, cut=completion.finish_reason == "length")
    except InvalidOutput as error:
        error.args = (f"{_circumstances(completion)}{error.message}",)
        error.hint = _HINTS.get(completion.finish_reason or "", _HINTS["stop"])
        raise
    return replace(completion, value=value)


def _alternatives_valued(request: Request, completion: Completion) -> Completion:
    if not completion.alternatives:
        return completion
    read, warnings = [], list(completion.warnings)
    for number, alternative in enumerate(completion.alternatives, 2):
        try:
            read.append(_valued(request, alternative))
        except InvalidOutput as error:
            read.append(alternative)
            warnings.append(f"Answer {number} has no value. {error.message}")
    return replace(completion, alternatives=tuple(read), warnings=tuple(warnings))


_HINTS = {
    "length": "Allow more max_tokens, or ask for less.",
    "content_filter": "Ask for something else.",
    "stop": "The answer is in error.completion.",
}


def _circumstances(completion: Completion) -> str:
    if completion.finish_reason == "length":
        return "The answer was cut off by max_tokens or the model's context. "
    if completion.finish_reason == "content_filter" or not completion.text.strip():
        return "The model refused to answer, or had nothing to say. "
    return "The answer does not have the form asked for. "


def repair(request: Request, error: InvalidOutput) -> Request | None:
    """The request for the same answer in the right form, None where that would not help.

    An answer cut off would be cut off again, and a refusal leaves nothing to repair.
    """
    wrong = error.completion
    if request.output is None or wrong is None or not wrong.text.strip():
        return None
    if wrong.finish_reason in ("length", "content_filter"):
        return None
    return replace(
        request,
        messages=(
            *request.messages,
            Message("assistant", (request.prefix or "") + wrong.text),
            Message("user", f"{error.message}\n\n{request.output.instruction}"),
        ),
        response_format=request.output.response_format(),
        tools=(),
        tool_choice=None,
        parallel_tool_calls=None,
        prefix=None,
        # The other answers are there already.
        n=None,
    )


def with_earlier(completion: Completion, earlier: Completion | None) -> Completion:
    """The completion with the usage and the cost of the one before added to its own.

    What is unknown of either makes the sum unknown. The alternatives of the one before stay.
    """
    if earlier is None:
        return completion
    both = completion.usage, earlier.usage
    usage = None if None in both else both[0] + both[1]  # type: ignore[operator]
    costs = completion.cost, earlier.cost
    cost = None if None in costs else costs[0] + costs[1]  # type: ignore[operator]
    alternatives = completion.alternatives or earlier.alternatives
    return replace(completion, usage=usage, cost=cost, alternatives=alternatives)
