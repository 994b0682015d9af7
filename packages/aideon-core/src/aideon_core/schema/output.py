"""The form an answer has to have: what is sent for it, and how the answer is read."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from aideon_core.errors import BadRequest, InvalidOutput
from aideon_core.schema.mistakes import path_of, shown
from aideon_core.schema.parser import JsonParser
from aideon_core.schema.partial import Found, Partial
from aideon_core.schema.validators import Check, of_schema, of_type
from aideon_core.types import Json, Message

if TYPE_CHECKING:
    from collections.abc import Sequence

Form: TypeAlias = Literal["json_schema", "json_object", "regex"]

_CACHED: Final = 128
_LONGEST_NAME: Final = 64
_NOT_IN_NAMES: Final = re.compile(r"[^A-Za-z0-9_-]+")
_FENCE: Final = re.compile(r"^[ \t]*```\w*[ \t]*$", re.MULTILINE)


_CALLS_FIRST = "Call tools before you answer where they help. "


@dataclass(frozen=True, slots=True, eq=False)
class Output:
    """The form of an answer; ``Output.of`` makes one, and the same one for the same type.

    Attributes:
        name: what the form is called on the wire.
        form: how it is asked for there.
        schema: the JSON Schema of the answer, None for a regex.
        pattern: the regex, None for JSON.
    """

    name: str
    form: Form
    schema: Json | None
    pattern: str | None
    _check: Check

    @classmethod
    def of(cls, output_type: object) -> Output:
        """The form that a Python type, a JSON Schema, a regex or ``"json"`` stands for.

        Args:
            output_type: whatever pydantic's TypeAdapter takes, a JSON Schema as a mapping, a
                compiled regex, ``dict`` for any JSON object, or ``"json"`` for any JSON.

        Raises:
            BadRequest: nothing can be read as that.
        """
        if isinstance(output_type, Mapping):
            return _of_schema(_canonical(output_type))
        if isinstance(output_type, re.Pattern):
            return _of_pattern(output_type)
        if isinstance(output_type, str):
            if output_type != "json":
                raise BadRequest(
                    f"output_type is {output_type!r}.",
                    hint="The one word it takes is 'json', for any JSON.",
                    param="output_type",
                )
            return _ANY
        if output_type is dict:
            return _ANY_OBJECT
        try:
            hash(output_type)
        except TypeError:
            # Some metadata of Annotated cannot be hashed, so that the type cannot be kept.
            return _of_type.__wrapped__(output_type)
        return _of_type(output_type)

    def response_format(self) -> dict[str, Any]:
        """The form as the chat wire asks for it."""
        if self.form == "json_schema":
            named = {"name": self.name, "schema": self.schema, "strict": True}
            return {"type": "json_schema", "json_schema": named}
        if self.form == "regex":
            return {"type": "regex", "pattern": self.pattern}
        return {"type": "json_object"}

    @property
    def instruction(self) -> str:
        """The form in words, for the prompt: without them, models of JSON mode write no JSON."""
        if self.form == "regex":
            return (
                "Answer with nothing but a text that this regular expression matches as a "
                f"whole:\n{self.pattern}"
            )
        if self.form == "json_object":
            what = "one JSON object" if self.schema else "one JSON value"
            return f"Answer with {what} and nothing else."
        return (
            "Answer with one JSON value that fits this JSON Schema, and nothing else:\n"
            + json.dumps(self.schema, ensure_ascii=False)
        )

    def instruct(
        self, messages: Sequence[Message], *, or_calls: bool = False
    ) -> tuple[Message, ...]:
        """The messages with the instruction: at the end of a leading system message, or as one.

        Args:
            messages: the conversation.
            or_calls: whether the model may call tools instead.
        """
        told = f"{_CALLS_FIRST}{self.instruction}" if or_calls else self.instruction
        first, *rest = messages
        if first.role != "system":
            return (Message("system", told), *messages)
        if isinstance(first.content, str):
            content: str | tuple[Json, ...] = f"{first.content}\n\n{told}"
        else:
            content = (*first.content, {"type": "text", "text": told})
        return (replace(first, content=content), *rest)

    def read(self, text: str, *, cut: bool = False) -> Any:  # noqa: ANN401 - of the output type
        """The value an answer stands for.

        JSON may stand in a fence, and an object or a list may have words around it, as long
        as it is the only JSON there. Nothing is repaired.

        Args:
            text: the answer.
            cut: the answer was cut off, so that a number at its end may go on.

        Raises:
            InvalidOutput: no value of the type is there; the message tells what is wrong.
        """
        if not text.strip():
            raise InvalidOutput("There is no text in it.")
        if self.form == "regex":
            return self._matched(text.strip(), cut=cut)
        found = _only_value(text, cut=cut)
        return self._check(text[found.start : found.end], found.value)

    def partial(self) -> Partial | None:
        """What reads an answer as it comes; None for a regex, which matches a whole text."""
        return None if self.form == "regex" else Partial()

    def _matched(self, text: str, *, cut: bool) -> Any:  # noqa: ANN401 - as read
        if cut:
            raise InvalidOutput(f"The text breaks off after {shown(text[-20:])}.")
        return self._check(text, text)


def _only_value(text: str, *, cut: bool) -> Found:
    """The one JSON value in a text.

    Raises:
        InvalidOutput: there is none, more than one, or none that is whole.
    """
    reader = Partial()
    reader.feed(text)
    if not cut:
        reader.end()
    if reader.error is not None:
        raise InvalidOutput(f"It is not JSON: {reader.error}.")
    if reader.open_path is not None:
        raise InvalidOutput(f"The JSON breaks off inside {path_of(reader.open_path)}.")
    found = reader.found or _fenced(text)
    if len(found) == 1:
        return found[0]
    if found:
        values = " and ".join(shown(each.value) for each in found[:2])
        raise InvalidOutput(f"It holds {len(found)} JSON values, such as {values}.")
    raise InvalidOutput(f"It holds no JSON, but {shown(text)}.")


def _fenced(text: str) -> list[Found]:
    """The texts, numbers and words that are alone in a fence; containers were found before."""
    fences = list(_FENCE.finditer(text))
    found = []
    for opening, closing in zip(fences[::2], fences[1::2], strict=False):
        inside = text[opening.end() : closing.start()]
        parser = JsonParser()
        end = parser.feed(inside)
        parser.end()
        if parser.is_whole and not inside[end:].strip():
            found.append(Found(parser.value, opening.end(), closing.start()))
    return found


@lru_cache(maxsize=_CACHED)
def _of_type(python_type: object) -> Output:
    schema, check = of_type(python_type)
    name = getattr(python_type, "__name__", None) or schema.get("title")
    return Output(_wire_name(name), "json_schema", schema, None, check)


@lru_cache(maxsize=_CACHED)
def _of_schema(canonical: str) -> Output:
    # A copy of its own: what the caller does to the mapping later changes no answer.
    schema = json.loads(canonical)
    return Output(_wire_name(schema.get("title")), "json_schema", schema, None, of_schema(schema))


@lru_cache(maxsize=_CACHED)
def _of_pattern(pattern: re.Pattern[Any]) -> Output:
    if not isinstance(pattern.pattern, str) or pattern.flags & ~re.UNICODE:
        raise BadRequest(
            f"output_type is {pattern!r}.",
            hint="A regex for an answer is one of text, without flags: they do not reach a "
            "server, so write out what they mean.",
            param="output_type",
        )

    def check(text: str, _: object) -> str:
        if pattern.fullmatch(text) is None:
            raise InvalidOutput(f"It is {shown(text)} and has to match {pattern.pattern}.")
        return text

    return Output("answer", "regex", None, pattern.pattern, check)


def _canonical(schema: Mapping[str, Any]) -> str:
    try:
        return json.dumps(dict(schema), ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise BadRequest(
            f"output_type is a mapping that is no JSON: {error}.",
            hint="A JSON Schema has texts for names, and JSON for values.",
            param="output_type",
        ) from error


def _wire_name(name: object) -> str:
    """A name as the wire takes it: letters, digits, underscores and dashes, 64 at most."""
    written = _NOT_IN_NAMES.sub("_", name if isinstance(name, str) else "").strip("_")
    return written[:_LONGEST_NAME] or "answer"


def _any(_: str, value: Any) -> Any:  # noqa: ANN401 - JSON
    return value


def _any_object(_: str, value: Any) -> Any:  # noqa: ANN401 - JSON
    if not isinstance(value, dict):
        raise InvalidOutput(f"$ is {shown(value)} and has to be an object.")
    return value


_ANY: Final = Output("answer", "json_object", {}, None, _any)
_ANY_OBJECT: Final = Output("answer", "json_object", {"type": "object"}, None, _any_object)
