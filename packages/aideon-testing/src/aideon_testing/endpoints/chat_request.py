"""What chat refuses, and what it warns of, before a model says anything."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aideon_testing.answers import most_tokens, prompt_texts
from aideon_testing.endpoints.bodies import Body
from aideon_testing.endpoints.messages import check_messages, check_tools
from aideon_testing.endpoints.sampling import MOST_LOGPROBS, Sampling
from aideon_testing.faults import Failure
from aideon_testing.models import facts_of, is_chat
from aideon_testing.script import pieces

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aideon_core.types import Json
    from aideon_testing.dialects import Dialect

_UNSUPPORTED = ("$schema", "additionalProperties")


def check(body: Json, dialect: Dialect) -> None:
    """Refuse what the API refuses; what it has no name for, it ignores.

    Args:
        body: names a model that is served.
        dialect: what that model speaks.

    Raises:
        Failure: 400 or 500, as the API has it.
    """
    read = Body(body)
    check_messages(read)
    if not is_chat(body["model"]):
        raise Failure.invalid_input()
    _check_parameters(read)
    check_tools(read)
    if not _is_format(body.get("response_format")):
        raise Failure.invalid_input()
    _check_media(body, dialect)
    _check_tool_parser(body, dialect)
    if dialect.boolean_logprobs and not isinstance(body.get("logprobs"), bool | None):
        raise Failure.error(400, _not_boolean(body["logprobs"]), reached="model")
    check_context(body)


def warnings(body: Json, dialect: Dialect) -> tuple[str, ...]:
    """What the API says about parameters that the model does not follow."""
    followed = dialect.tool_choice != "auto" or body.get("tool_choice") in (None, "auto", "none")
    return () if followed or not body.get("tools") else ("Model supports only tool_choice auto",)


def _check_parameters(read: Body) -> None:
    Sampling.read(read)
    read.integer("max_completion_tokens", 0)
    read.integer("top_logprobs", 0, MOST_LOGPROBS)
    if not isinstance(read.given("logprobs"), bool):
        read.integer("logprobs", 0, MOST_LOGPROBS)
    read.mapping("reasoning")
    read.mapping("chat_template_kwargs")
    if not isinstance(read.given("reasoning_effort"), str | None):
        raise Failure.invalid_input()


def _is_format(asked: object) -> bool:
    """Whether it is a known response format; a schema has a name in one place of the two."""
    match asked:
        case None | {"type": "text" | "json_object"}:
            return True
        case {"type": "json_schema", "json_schema": {"name": str(), "schema": dict()}}:
            return True
        case {"type": "json_schema", "schema": dict()} | {"type": "regex", "pattern": str()}:
            return True
        case _:
            return False


def _check_media(body: Json, dialect: Dialect) -> None:
    kinds = set(_media(body))
    if kinds and dialect.video is not None and "video_url" in kinds:
        raise Failure.error(400, dialect.video, reached="model")
    if not kinds or dialect.media == "taken":
        return
    if dialect.media == "failed":
        raise Failure.server_error()
    if dialect.media == "invalid":
        raise Failure.invalid_input()
    if dialect.media == "nested":
        raise Failure.not_multimodal(body["model"])
    message = f"{body['model']} is not a multimodal model None"
    raise Failure.error(400, message, reached="model")


def _media(body: Json) -> Iterator[str]:
    for message in body["messages"]:
        for part in message.get("content") or ():
            if isinstance(part, dict) and part["type"] != "text":
                yield part["type"]


def _check_tool_parser(body: Json, dialect: Dialect) -> None:
    tools, choice = body.get("tools"), body.get("tool_choice")
    if not tools or choice == "none":
        return
    if dialect.tool_choice == "none" and choice in (None, "auto"):
        raise Failure.no_tool_parser()
    if dialect.strict_schemas and any(map(_is_unsupported, tools)):
        raise Failure.schema_unsupported()


def _is_unsupported(tool: Json) -> bool:
    match tool:
        case {"function": {"parameters": dict() as parameters}}:
            return any(key in parameters for key in _UNSUPPORTED)
        case _:
            return False


def _not_boolean(value: object) -> str:
    told = "Input should be a valid boolean, unable to interpret input"
    place = ("body", "logprobs")
    return str([{"type": "bool_parsing", "loc": place, "msg": told, "input": value}])


def check_context(body: Json) -> None:
    """Refuse what does not fit, unless the request has it cut."""
    limit = facts_of(body["model"]).context_length
    if body.get("context_length_exceeded_behavior") == "truncate" or limit is None:
        return
    wanted = most_tokens(body) or 0
    inputs = sum(len(pieces(text)) for text in prompt_texts(body))
    if inputs + wanted > limit:
        raise Failure.over_context(limit=limit, input_tokens=inputs, max_tokens=wanted)
