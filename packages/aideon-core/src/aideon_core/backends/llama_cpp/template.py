"""Messages to prompt, by the chat template the model was trained with."""

from __future__ import annotations

import json
from datetime import datetime
from typing import TYPE_CHECKING, Any, NoReturn

from jinja2 import TemplateError
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

from aideon_core.backends.llama_cpp.literal import Marks, Part
from aideon_core.errors import BadRequest, NoChatTemplate

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from aideon_core.types import Message


class ChatTemplate:
    """A model's chat template, run in a sandbox because it comes with the model file.

    Args:
        source: the Jinja source.
        bos: the text of the beginning-of-sequence token, empty when there is none.
        eos: the text of the end-of-sequence token, empty when there is none.
    """

    def __init__(self, source: str, *, bos: str = "", eos: str = "") -> None:
        # What Hugging Face's own renderer offers: templates are written against it.
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols]
        )
        environment.filters["tojson"] = _tojson
        environment.globals["raise_exception"] = _raise
        environment.globals["strftime_now"] = lambda fmt: datetime.now().astimezone().strftime(fmt)
        try:
            self._template = environment.from_string(source)
        except TemplateError as error:
            raise NoChatTemplate(
                f"The model's chat template cannot be read: {error}.",
                hint="Pass chat_template= with one that can.",
            ) from error
        self._tokens = {"bos_token": bos, "eos_token": eos}

    def render(
        self, messages: Iterable[Message], control: Collection[str] = ()
    ) -> tuple[Part, ...]:
        """The prompt, ending where the assistant is to begin.

        Args:
            messages: the conversation.
            control: the texts of the model's control tokens; where a message spells one, it is
                a literal part of the prompt.

        Raises:
            BadRequest: the template refuses these messages.
        """
        turns = [_turn(message) for message in messages]
        marks = Marks(control, turns)
        try:
            prompt = self._template.render(
                messages=[{**marks.put(turn), "role": turn["role"]} for turn in turns],
                add_generation_prompt=True,
                **self._tokens,
            )
            return marks.parts(prompt)
        except Exception as error:
            # A template is a program: it can divide by zero as well as refuse.
            raise BadRequest(
                f"The model's chat template refuses these messages: {error}.",
                hint="Many templates want user and assistant turns to alternate.",
            ) from error


def _turn(message: Message) -> dict[str, Any]:
    turn: dict[str, Any] = {"role": message.role, "content": message.text}
    if message.name is not None:
        turn["name"] = message.name
    if message.tool_call_id is not None:
        turn["tool_call_id"] = message.tool_call_id
    if message.tool_calls:
        turn["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": _arguments(call.arguments)},
            }
            for call in message.tool_calls
        ]
    return turn


def _arguments(text: str) -> Any:  # noqa: ANN401 - any JSON value
    # Templates write the arguments out with tojson, so they want the value, not its text.
    try:
        return json.loads(text)
    except ValueError:
        return text


def _tojson(value: object, indent: int | None = None) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent)


def _raise(message: str) -> NoReturn:
    raise TemplateError(message)
