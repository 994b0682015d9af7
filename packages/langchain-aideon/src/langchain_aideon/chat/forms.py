"""A response format as the core's output type, and its answers as LangChain's parsers read them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pydantic_core import to_json

from aideon_core.errors import AideonError, InvalidOutput
from aideon_core.types import Chunk

if TYPE_CHECKING:
    from aideon_core import Completion


def asked(params: dict[str, Any]) -> dict[str, Any]:
    """The parameters with a JSON Schema that answers are to have as an ``output_type``.

    The core has the answer held to it wherever it can be, checks it, and asks once more for
    one that does not fit. ``strict: False`` asks for none of that, and is sent as it is.
    """
    form = params.get("response_format")
    if params.get("output_type") is not None or isinstance(form, type):
        output = params.get("output_type") or form
        return params | {"response_format": None, "output_type": output}
    named = form.get("json_schema") if isinstance(form, Mapping) else None
    schema = named.get("schema") if isinstance(named, Mapping) else None
    if not isinstance(named, Mapping) or not isinstance(schema, Mapping):
        return params
    if named.get("strict") is False:
        return params
    name = named.get("name") or schema.get("title")
    titled = {**schema, "title": name} if name else schema
    return params | {"response_format": None, "output_type": titled}


def plain(answer: Completion) -> Completion:
    """The answer with nothing around the JSON it stands for: parsers read the whole text.

    A text is left as it is, because it may be what a regex matches.
    """
    if answer.alternatives:
        answer = replace(answer, alternatives=tuple(map(plain, answer.alternatives)))
    if answer.value is None or isinstance(answer.value, str) or _is_json(answer.text):
        return answer
    return replace(answer, text=to_json(answer.value, fallback=str).decode())


def misformed(error: AideonError) -> Completion:
    """The answer in an error, where the answer's form is all that is wrong.

    LangChain's own parsers tell of it, and keep the message. A warning says what is wrong.

    Raises:
        AideonError: the error, where it is another.
    """
    wrong = _invalid(error)
    if wrong is None or wrong.completion is None:
        raise error
    answer = wrong.completion
    return replace(answer, route=error.route, warnings=(*answer.warnings, wrong.message))


def end_of(error: AideonError) -> Chunk:
    """The last chunk of a stream whose answer has another form than it was to have.

    Raises:
        AideonError: the error, where it is another.
    """
    whole = misformed(error)
    return Chunk(
        finish_reason=whole.finish_reason,
        usage=whole.usage,
        cost=whole.cost,
        model=whole.model,
        id=whole.id,
        warnings=whole.warnings,
        extra=whole.extra,
        route=whole.route,
    )


def _invalid(error: AideonError) -> InvalidOutput | None:
    """The last answer of another form, where everybody who was asked gave one."""
    if isinstance(error, InvalidOutput):
        return error
    failed = [] if error.route is None else [each.error for each in error.route.attempts]
    invalid = [each for each in failed if isinstance(each, InvalidOutput)]
    return invalid[-1] if invalid and len(invalid) == len(failed) else None


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True
