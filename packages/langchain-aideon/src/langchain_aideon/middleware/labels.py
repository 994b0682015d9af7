"""The label ``private``: where it is read, how it spreads, and why it stays. Pure functions.

It is the word ``"private"`` under the name ``privacy``: in an agent's state or context, in a
message's ``additional_kwargs``, in a tool message's ``artifact``, in the update of a Command.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, TypeVar

from langchain_core.messages import AIMessage, BaseMessage, ToolMessage
from langgraph.types import Command

from aideon_core.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from collections.abc import Set as AbstractSet

Privacy: TypeAlias = Literal["public", "private"]
M = TypeVar("M", bound=BaseMessage)

KEY: Final = "privacy"
PRIVATE: Final = "private"
PUBLIC: Final = "public"


def strictest(left: Privacy | None, right: Privacy | None) -> Privacy:
    """The label of both together: private once either is.

    Raises:
        ConfigError: one is no label.
    """
    for label in (left, right):
        if label not in (None, PUBLIC, PRIVATE):
            raise ConfigError(
                f"{KEY} is {label!r}.", hint=f"It is {PRIVATE!r}, or {PUBLIC!r}, or not given."
            )
    return PRIVATE if PRIVATE in (left, right) else PUBLIC


def says_private(holder: object) -> bool:
    """Whether a mapping or an object says of itself that it is private.

    Raises:
        ConfigError: it says something under that name that is no label.
    """
    said = holder.get(KEY) if isinstance(holder, Mapping) else getattr(holder, KEY, None)
    return strictest(None, said) == PRIVATE


def are_private(messages: Sequence[BaseMessage], tools: AbstractSet[str]) -> bool:
    """Whether one of the messages is private: it says so, or it is a result of these tools."""
    names = {
        call["id"]: call["name"]
        for message in messages
        if isinstance(message, AIMessage)
        for call in message.tool_calls
    }
    return any(
        says_private(message.additional_kwargs)
        or (
            isinstance(message, ToolMessage)
            and (
                _artifact_says(message)
                or bool({message.name, names.get(message.tool_call_id)} & tools)
            )
        )
        for message in messages
    )


def marked(message: M) -> M:
    """The message, saying of itself that it is private."""
    return message.model_copy(
        update={"additional_kwargs": {**message.additional_kwargs, KEY: PRIVATE}}
    )


def is_private_result(result: object) -> bool:
    """Whether what a tool gave back says that it is private.

    Args:
        result: a ToolMessage, a Command, or a list of them.
    """
    if isinstance(result, list):
        return any(map(is_private_result, result))
    if isinstance(result, ToolMessage):
        return are_private([result], frozenset())
    if isinstance(result, Command):
        update = _pairs(result)
        messages = [m for m in _listed(update) if isinstance(m, BaseMessage)]
        return says_private(update) or are_private(messages, frozenset())
    return False


def privately(result: object) -> Any:  # noqa: ANN401 - LangGraph's type for it is wider than told
    """What a tool gave back, made to label the agent's state and its messages private.

    Args:
        result: a ToolMessage, a Command, or a list of them.
    """
    if isinstance(result, list):
        return [privately(each) for each in result]
    if isinstance(result, ToolMessage):
        return Command(update={"messages": [marked(result)], KEY: PRIVATE})
    assert isinstance(result, Command)
    update = _pairs(result)
    if "messages" in update:
        told = [marked(m) if isinstance(m, BaseMessage) else m for m in _listed(update)]
        update = update | {"messages": told}
    return replace(result, update=update | {KEY: PRIVATE})


def _artifact_says(message: ToolMessage) -> bool:
    # An artifact is the tool's own; only a mapping that has the word means it.
    return isinstance(message.artifact, Mapping) and message.artifact.get(KEY) == PRIVATE


def _listed(update: Mapping[str, Any]) -> list[Any]:
    found = update.get("messages", [])
    return found if isinstance(found, list) else [found]


def _pairs(command: Command[Any]) -> dict[str, Any]:
    if command.update is None:
        return {}
    if isinstance(command.update, Mapping):
        return dict(command.update)
    raise ConfigError(
        f"A tool gave a Command whose update is a {type(command.update).__name__}, which the "
        "label of privacy cannot be read from.",
        hint="Give it a dict as its update.",
    )
