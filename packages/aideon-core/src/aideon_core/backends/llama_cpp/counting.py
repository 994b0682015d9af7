"""Counting tokens with a model's own vocabulary, whose weights stay on the disk."""

from __future__ import annotations

import threading
from functools import lru_cache
from typing import TYPE_CHECKING

from aideon_core import forks
from aideon_core.backends.llama_cpp.model import Model
from aideon_core.backends.llama_cpp.options import ModelOptions
from aideon_core.backends.llama_cpp.prompts.template import ChatTemplate
from aideon_core.errors import BadRequest

if TYPE_CHECKING:
    from pathlib import Path

    from aideon_core.types import Request


class Counter:
    """The vocabulary of a model file, for any thread.

    Args:
        path: the file.

    Raises:
        LoadFailed: llama.cpp cannot load it.
    """

    def __init__(self, path: Path) -> None:
        self._name = path.name
        self._model = Model(ModelOptions(path), weights=False)
        self._templates: dict[str | None, ChatTemplate] = {}
        self.forked()
        forks.forget_with(self)

    def forked(self) -> None:
        """A thread of the parent may have held the lock."""
        self._lock = threading.Lock()

    def tokens(self, text: str) -> list[int]:
        """The tokens of a text; what looks like a control token in it is text too.

        Raises:
            BadRequest: the text has half a character.
        """
        try:
            with self._lock:
                return self._model.text_tokens(text)
        except UnicodeEncodeError as error:
            raise BadRequest(
                f"The text has half a character at position {error.start}.",
                hint="It was cut or decoded wrongly before it came here.",
            ) from error

    def count(self, request: Request, chat_template: str | None) -> int:
        """How many tokens the prompt of a request has.

        Raises:
            NoChatTemplate: there is no template to write it by.
            BadRequest: the template refuses the messages.
        """
        with self._lock:
            if chat_template not in self._templates:
                self._templates[chat_template] = ChatTemplate.of(
                    self._model, chat_template, name=self._name
                )
            prompt = self._templates[chat_template].render(
                request.messages,
                self._model.control,
                tools=request.tools,
                tool_choice=request.tool_choice,
                prefix=request.prefix,
            )
            return len(self._model.tokenize(prompt.parts))


@lru_cache(maxsize=4)
def counter(path: Path) -> Counter:
    """The counter of a file, made once.

    Raises:
        LoadFailed: llama.cpp cannot load the file.
    """
    return Counter(path)
