"""What a conversation looks like."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from aideon_testing.faults import Failure

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from aideon_core.types import Json
    from aideon_testing.endpoints.bodies import Body

# The specification has no developer; OpenAI's clients send it for system, and nothing on
# record refuses it.
_ROLES: Final = ("system", "developer", "user", "assistant", "tool", "function")


def check_messages(body: Body) -> None:
    """Refuse what is no conversation.

    Raises:
        Failure: 400, there are no messages, or one is not as the API has it.
    """
    body.required("messages")
    messages = body.objects("messages")
    if not messages:
        raise Failure.empty_prompt()
    if not all(map(_is_message, messages)):
        raise Failure.invalid_input()


def check_tools(body: Body) -> None:
    """Refuse what are no tools, and no choice of them.

    Raises:
        Failure: 400.
    """
    tools = body.objects("tools")
    if not all(map(_is_tool, tools)):
        raise Failure.invalid_input()
    names = [tool["function"]["name"] for tool in tools]
    if not _is_tool_choice(body.given("tool_choice"), names):
        raise Failure.invalid_input()


def _is_message(message: Json) -> bool:
    match message:
        case {"role": "tool"} if not isinstance(message.get("tool_call_id"), str):
            return False
        case {"role": str(role)} if role in _ROLES:
            return _are_calls(message.get("tool_calls")) and _is_content(message)
        case _:
            return False


def _are_calls(calls: object) -> bool:
    return calls is None or _are(calls, _is_call)


def _are(values: object, fits: Callable[[Json], bool]) -> bool:
    if not isinstance(values, list):
        return False
    return all(isinstance(value, dict) and fits(value) for value in values)


def _is_call(call: Json) -> bool:
    match call:
        case {"function": {"name": str(), "arguments": str()}}:
            return isinstance(call.get("id"), str | None)
        case _:
            return False


def _is_content(message: Json) -> bool:
    match message.get("content"):
        case None:
            # Only the assistant may have nothing to say.
            return bool(message["role"] == "assistant")
        case str():
            return True
        case parts:
            return _are(parts, _is_part)


def _is_part(part: Json) -> bool:
    match part:
        case {"type": "text"}:
            return isinstance(part.get("text"), str)
        case {"type": "image_url" | "video_url" | "audio_url" as kind}:
            media = part.get(kind)
            return isinstance(media, dict) and isinstance(media.get("url"), str)
        case {"type": "input_audio"}:
            audio = part.get("input_audio")
            return isinstance(audio, dict) and isinstance(audio.get("data"), str)
        case {"type": str()}:
            # What becomes of media of other kinds is the model's to say.
            return True
        case _:
            return False


def _is_tool(tool: Json) -> bool:
    match tool:
        case {"type": "function", "function": {"name": str()} as function}:
            return isinstance(function.get("parameters"), dict | None)
        case _:
            return False


def _is_tool_choice(choice: object, names: Collection[str]) -> bool:
    match choice:
        case None | "auto" | "none" | "required" | {"function": {"name": str()}}:
            return True
        case str():
            return choice in names
        case _:
            return False
