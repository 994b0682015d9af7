"""What a body of the suite is: a promise, the features it needs, and the cases it holds for."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import wraps
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, get_args

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from aideon_testing.conformance.subject import Subject

Feature: TypeAlias = Literal[
    "tools",
    "tool_choice",
    "parallel_tool_calls",
    "json_schema",
    "json_object",
    "regex",
    "logprobs",
    "n",
    "top_k",
    "min_p",
    "repetition_penalty",
    "logit_bias",
    "prefix",
]
"""What a backend may lack; what it lacks, it refuses with Unsupported.

``tool_choice`` is the choices ``"required"`` and a named tool, ``parallel_tool_calls`` that
several calls can be forbidden; the others are what their parameters are.
"""

FEATURES: Final[tuple[Feature, ...]] = get_args(Feature)

Method: TypeAlias = "Callable[..., None]"

_PREFIX: Final = "test_"


class Broken(AssertionError):
    """A promise that does not hold; the message tells what came instead."""


def hold(kept: object, told: str) -> None:
    """Break the promise unless it is kept.

    Raises:
        Broken: ``kept`` is false; ``told`` says what came.
    """
    if not kept:
        raise Broken(told)


@dataclass(frozen=True, slots=True)
class Promise:
    """What ``promise`` notes of a body: the features it needs and the values of its cases."""

    needs: tuple[Feature, ...]
    cases: Mapping[str, Sequence[str]]


@dataclass(frozen=True, slots=True)
class Body:
    """One case of one promise, ready to be proved.

    Attributes:
        name: the promise with its case, such as ``"stop_strings[streamed]"``.
        area: what it is about: the module it is in.
        sentence: the promise in words.
        prove: holds a subject to it; raises Broken where it is not kept.
    """

    name: str
    area: str
    sentence: str
    prove: Callable[[Subject], None]


def promise(*needs: Feature, **cases: Sequence[str]) -> Callable[[Method], Method]:
    """Make a method a body of the suite; it takes a Subject, and a text for each of the cases.

    Args:
        *needs: the features of every request in it; where the subject lacks one, the request
            has to be refused with Unsupported.
        **cases: arguments of the method with the values it is run with, each with each.
    """

    def made(body: Method) -> Method:
        @wraps(body)
        def proved(self: object, subject: Subject, *values: str, **case: str) -> None:
            # pytest gives them by name, in an order of its own.
            case = dict(zip(cases, values, strict=False)) | case
            name = _named(body.__name__, [case[each] for each in cases])
            with subject.proving(name, needs):
                body(self, subject, **case)

        vars(proved)["promise"] = Promise(needs, cases)
        return proved

    return made


def cases_of(suite: type, name: str) -> Mapping[str, Sequence[str]]:
    """The cases of a method of a suite, none for one that is no body.

    A method that overrides a body has the cases of what it overrides.
    """
    for kind in suite.__mro__:
        noted = getattr(vars(kind).get(name), "promise", None)
        if isinstance(noted, Promise):
            return noted.cases
    return {}


def bodies(suite: object, only: str = "") -> Iterator[Body]:
    """Every body of a suite, a case each, in the order in which they are written.

    Args:
        suite: an object with bodies for methods.
        only: a part of the names wanted.
    """
    written = [
        name
        for kind in reversed(type(suite).__mro__)
        for name, member in vars(kind).items()
        if isinstance(getattr(member, "promise", None), Promise)
    ]
    for name in dict.fromkeys(written):
        cases = cases_of(type(suite), name)
        for values in itertools.product(*cases.values()):
            body = _body(suite, name, dict(zip(cases, values, strict=True)))
            if only in body.name or only == body.area:
                yield body


def _body(suite: object, name: str, case: dict[str, str]) -> Body:
    method = getattr(suite, name)
    sentence = (method.__doc__ or "").strip().partition("\n")[0]
    area = method.__module__.rpartition(".")[2]
    return Body(
        _named(name, case.values()), area, sentence, lambda subject: method(subject, **case)
    )


def _named(name: str, case: Iterable[object]) -> str:
    values = "-".join(map(str, case))
    return name.removeprefix(_PREFIX) + (f"[{values}]" if values else "")
