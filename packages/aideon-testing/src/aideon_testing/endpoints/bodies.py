"""What a request asks for, read and checked parameter by parameter."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, TypeVar

from aideon_testing.engines import dialect_of
from aideon_testing.faults import Failure
from aideon_testing.models import is_a

if TYPE_CHECKING:
    from collections.abc import Collection

    from aideon_core.types import Json
    from aideon_testing.dialects import Dialect

_T = TypeVar("_T")


class Body:
    """The parameters of a request; each method raises Failure when a value will not do.

    A parameter that is ``null`` counts as not given, as it does for the API.

    Args:
        values: the JSON object sent.
    """

    def __init__(self, values: Json) -> None:
        self._values = values

    def model(self, models: Collection[str], *types: str) -> str:
        """The model to use.

        Args:
            models: the ids served.
            types: the kinds of model the endpoint takes; none takes every kind.
        """
        model = self._values.get("model")
        if not isinstance(model, str):
            raise Failure.missing("model")
        if model not in models:
            raise unserved(model, dialect_of(model))
        if types and not is_a(model, *types):
            raise Failure.invalid_input()
        return model

    def text(self, name: str) -> str:
        """A text that must be given."""
        value = self.required(name)
        if not isinstance(value, str):
            raise Failure.invalid_input()
        return value

    def prompt(self, name: str) -> str:
        """A text that must be given and say something."""
        if not (text := self.text(name)):
            raise Failure.empty_prompt()
        return text

    def given(self, name: str) -> object:
        """A value of any kind, ``None`` when it is not given."""
        return self._values.get(name)

    def required(self, name: str) -> object:
        """A value of any kind that must be given."""
        if (value := self._values.get(name)) is None:
            raise Failure.missing(name)
        return value

    def choice(self, name: str, choices: Collection[str], default: str) -> str:
        """One of several words."""
        value = self._given(name, str, default)
        if value not in choices:
            raise Failure.invalid_input()
        return value

    def flag(self, name: str) -> bool:
        """A yes or no, by default no."""
        return self._given(name, bool, default=False)

    def integer(self, name: str, low: int, high: int | None = None) -> int | None:
        """A whole number in a range, both ends included; ``None`` when it is not given."""
        value = self._values.get(name)
        if value is None:
            return None
        if not isinstance(value, int) or isinstance(value, bool):
            raise Failure.invalid_input()
        if value < low or (high is not None and value > high):
            raise Failure.invalid_input()
        return value

    def number(self, name: str) -> float | None:
        """A finite number, ``None`` when it is not given."""
        value = self._values.get(name)
        if isinstance(value, bool) or not isinstance(value, int | float | None):
            raise Failure.invalid_input()
        if isinstance(value, float) and not math.isfinite(value):
            raise Failure.invalid_input()
        return value

    def objects(self, name: str) -> list[Json]:
        """A list of objects, empty when it is not given."""
        values = self._given(name, list, default=[])
        if not all(isinstance(value, dict) for value in values):
            raise Failure.invalid_input()
        return values

    def mapping(self, name: str) -> Json:
        """An object, empty when it is not given."""
        return self._given(name, dict, default={})

    def texts(self, name: str) -> list[str]:
        """Texts, or a single one; none when it is not given."""
        value = self._values.get(name)
        values = [] if value is None else [value] if isinstance(value, str) else value
        if not isinstance(values, list) or not all(isinstance(text, str) for text in values):
            raise Failure.invalid_input()
        return values

    def _given(self, name: str, kind: type[_T], default: _T) -> _T:
        value = self._values.get(name)
        if value is None:
            return default
        if not isinstance(value, kind):
            raise Failure.invalid_input()
        return value


def unserved(model: str, dialect: Dialect) -> Failure:
    """What a request for a model gets that the server does not serve.

    Args:
        model: its id.
        dialect: what it speaks.
    """
    if dialect.serverless:
        return Failure.unknown_model(model)
    return Failure.not_serverless(model)
