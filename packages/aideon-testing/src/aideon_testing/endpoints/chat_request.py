"""What chat refuses, and what it warns of, before a model says anything."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aideon_testing.answers import prompt_texts
from aideon_testing.endpoints.bodies import Body
from aideon_testing.faults import Failure
from aideon_testing.models import facts_of, is_chat
from aideon_testing.script import pieces

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aideon_core.types import Json
    from aideon_testing.dialects import Dialect

_MOST_CHOICES = 128
_MOST_LOGPROBS = 20
_UNSUPPORTED = ("$schema", "additionalProperties")


def check(body: Json, dialect: Dialect) -> None:
    """Refuse what the API refuses; what it has no name for, it ignores.

    Args:
        body: names a model that is served.
        dialect: what that model speaks.

    Raises:
        Failure: 400 or 500, as the API has it.
    """
    model, messages = body["model"], body.get("messages")
    if messages == []:
        raise Failure.empty_prompt()
    if not _are_messages(messages) or not is_chat(model):
        raise Failure.invalid_input()
    _check_parameters(body)
    _check_media(body, dialect)
    _check_tools(body, dialect)
    if dialect.boolean_logprobs and not isinstance(body.get("logprobs"), bool | None):
        raise Failure.error(400, _not_boolean(body["logprobs"]))
    check_context(body)


def warnings(body: Json, dialect: Dialect) -> tuple[str, ...]:
    """What the API says about parameters that the model does not follow."""
    followed = dialect.tool_choice != "auto" or body.get("tool_choice") in (None, "auto", "none")
    return () if followed or not body.get("tools") else ("Model supports only tool_choice auto",)


def _are_messages(messages: object) -> bool:
    return isinstance(messages, list) and all(
        isinstance(message, dict) and _is_content(message.get("content")) for message in messages
    )


def _is_content(content: object) -> bool:
    if isinstance(content, list):
        return all(
            isinstance(part, dict) and isinstance(part.get("text"), str | None) for part in content
        )
    return isinstance(content, str | None)


def _check_parameters(body: Json) -> None:
    read = Body(body)
    read.integer("n", 1, _MOST_CHOICES)
    read.integer("top_logprobs", 0, _MOST_LOGPROBS)
    if not isinstance(body.get("logprobs"), bool):
        read.integer("logprobs", 0, _MOST_LOGPROBS)
    read.integer("max_tokens", 0)
    read.integer("max_completion_tokens", 0)
    read.texts("stop")
    tools = body.get("tools") or []
    are_tools = isinstance(tools, list) and all(isinstance(tool, dict) for tool in tools)
    if not are_tools or not _is_format(body.get("response_format")):
        raise Failure.invalid_input()


def _is_format(asked: object) -> bool:
    """Whether it is a known response format; a schema may stand in either of two places."""
    match asked:
        case None | {"type": "text" | "json_object"}:
            return True
        case {"type": "json_schema", "json_schema": {"schema": dict()}}:
            return True
        case {"type": "json_schema", "schema": dict()} | {"type": "regex", "pattern": str()}:
            return True
        case _:
            return False


def _check_media(body: Json, dialect: Dialect) -> None:
    kinds = set(_media(body))
    if kinds and dialect.video is not None and "video_url" in kinds:
        raise Failure.error(400, dialect.video)
    if not kinds or dialect.media == "taken":
        return
    if dialect.media == "failed":
        raise Failure.server_error()
    if dialect.media == "invalid":
        raise Failure.invalid_input()
    message = f"{body['model']} is not a multimodal model None"
    if dialect.media == "refused":
        raise Failure.error(400, message)
    nested = {"message": message, "type": "BadRequestError", "param": None, "code": 400}
    outer = {"message": nested, "type": "invalid_request_error", "param": None, "code": None}
    raise Failure(400, {"id": None, "error": outer})


def _media(body: Json) -> Iterator[str]:
    for message in body["messages"]:
        for part in message.get("content") or ():
            if isinstance(part, dict) and part.get("type", "text") != "text":
                yield str(part["type"])


def _check_tools(body: Json, dialect: Dialect) -> None:
    tools, choice = body.get("tools"), body.get("tool_choice")
    if not tools or choice == "none":
        return
    if dialect.tool_choice == "none" and choice in (None, "auto"):
        options = "--enable-auto-tool-choice and --tool-call-parser"
        raise Failure.error(400, f'"auto" tool choice requires {options} to be set')
    if dialect.strict_schemas and any(map(_is_unsupported, tools)):
        raise Failure.error(
            400, "The provided JSON schema contains features not supported by xgrammar."
        )


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
    wanted = body.get("max_tokens") or body.get("max_completion_tokens") or 0
    inputs = sum(len(pieces(text)) for text in prompt_texts(body))
    if inputs + wanted > limit:
        raise Failure.over_context(limit=limit, input_tokens=inputs, max_tokens=wanted)
