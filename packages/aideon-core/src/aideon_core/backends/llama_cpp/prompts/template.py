"""Messages to prompt, by the chat template the model was trained with.

Tools, calls and results are shown by the template where it knows them, else in the generic
form of ``formats``; what a template refuses is put in a form that it takes by ``adapting``.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import product
from typing import TYPE_CHECKING, Final, NoReturn

from jinja2 import TemplateError
from jinja2.ext import Extension, loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

from aideon_core.backends.llama_cpp.prompts.adapting import (
    CallStyle,
    Support,
    Turn,
    adapted,
    said,
    turns_of,
    values,
)
from aideon_core.backends.llama_cpp.prompts.formats import GENERIC, format_of
from aideon_core.backends.llama_cpp.prompts.literal import Marks, Part, parts_of
from aideon_core.backends.llama_cpp.prompts.probing import PROBE_TOOLS, hollow, probed, shows
from aideon_core.errors import BadRequest, NoChatTemplate

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from jinja2.nodes import Node
    from jinja2.parser import Parser

    from aideon_core.backends.llama_cpp.model import Model
    from aideon_core.types import Json, Message

# No template and no prompt that a context could hold comes near.
_LONGEST_SOURCE: Final = 1_000_000
_LONGEST_PROMPT: Final = 20_000_000
_OPENED_THOUGHT: Final = re.compile(r"<think>\s*\Z")
_THOUGHT_END: Final = "</think>"
_SYSTEM, _USER, _ANSWER = Turn("system", "."), Turn("user", "."), Turn("assistant", ".")


@dataclass(frozen=True, slots=True)
class Prompt:
    """What the model reads before it answers.

    Attributes:
        parts: the prompt; the text of the assistant that the answer goes on from begins a
            part of its own, so that it is tokenized as if the model had written it.
        opens_thought: whether the answer begins inside a thought.
    """

    parts: tuple[Part, ...]
    opens_thought: bool = False

    @property
    def text(self) -> str:
        """The prompt in one piece."""
        return "".join(part.text for part in self.parts)


class ChatTemplate:
    """A model's chat template, run in a sandbox because it comes with the model file.

    Args:
        source: the Jinja source.
        bos: the text of the beginning-of-sequence token, empty when there is none.
        eos: the text of the end-of-sequence token, empty when there is none.

    Attributes:
        call_format: how the model writes tool calls, or is told to.

    Raises:
        NoChatTemplate: the source is no template.
    """

    def __init__(self, source: str, *, bos: str = "", eos: str = "") -> None:
        if len(source) > _LONGEST_SOURCE:
            raise NoChatTemplate(
                f"The model's chat template has {len(source)} characters, so it is none.",
                hint="Pass chat_template= with one that can be read.",
            )
        try:
            self._template = _environment().from_string(source)
        except (TemplateError, RecursionError) as error:
            raise NoChatTemplate(
                f"The model's chat template cannot be read: {error}.",
                hint="Pass chat_template= with one that can.",
            ) from error
        known = format_of(source)
        self.call_format = known or GENERIC
        self._knows_calls = known is not None
        self._tokens = {"bos_token": bos, "eos_token": eos}
        # Hugging Face's renderer says that there are no tools; some take that for some.
        self._none: Mapping[str, None] = {}
        held = self._held()
        self._none = {"tools": None, "documents": None}
        if self._held() < held:
            self._none = {}
        self._opening = self._missing_opening()
        self._supports: dict[bool, Support] = {}

    @classmethod
    def of(cls, model: Model, override: str | None, *, name: str) -> ChatTemplate:
        """The template to use for a model: its own, or one that comes before it.

        Args:
            model: whose file may carry one.
            override: the source of another.
            name: what to call the file.

        Raises:
            NoChatTemplate: there is none, or the source is no template.
        """
        if source := override or model.chat_template:
            return cls(source, bos=model.bos, eos=model.eos)
        raise NoChatTemplate(
            f"{name!r} carries no chat template, so it is probably a base model that was not "
            "trained to chat.",
            hint="Use an instruct model, or pass chat_template= with a Jinja template.",
        )

    def render(
        self,
        messages: Sequence[Message],
        control: Collection[str] = (),
        *,
        tools: Sequence[Json] = (),
        tool_choice: str | Json | None = None,
        prefix: str | None = None,
    ) -> Prompt:
        """The prompt, ending where the assistant is to begin or to go on.

        Args:
            messages: the conversation.
            control: the texts of the model's control tokens; where a message spells one, it is
                a literal part of the prompt.
            tools: what the model can call, as OpenAI's API defines it.
            tool_choice: ``"none"`` keeps the tools from the model.
            prefix: the text of the assistant that the answer goes on from. Control tokens that
                belong to ``call_format`` are tokens in it, all others are text. A thought that
                the template opens is closed before a prefix that is past it.

        Raises:
            BadRequest: the template refuses these messages, or leaves a part of them out.
        """
        tools = () if tool_choice == "none" else tuple(tools)
        marks = Marks(control, [*said(turns_of(messages)), *tools])
        rendered = self._render(turns_of(messages, marks.put_text), marks.put(tools))
        parts = marks.parts(rendered)
        opens_thought = _OPENED_THOUGHT.search(rendered) is not None
        if not prefix:
            return Prompt(parts, opens_thought)
        if opens_thought and _THOUGHT_END not in prefix:
            opens_thought = False
            parts = (*parts[:-1], Part(f"{parts[-1].text.rstrip()}\n\n{_THOUGHT_END}\n\n"))
        literal = [token for token in control if not self._writes(token)]
        return Prompt((*parts, *parts_of(prefix, literal)), opens_thought)

    def _writes(self, token: str) -> bool:
        return any(token in text for text in self.call_format.texts)

    def _render(self, turns: Sequence[Turn], tools: Sequence[Json]) -> str:
        """Render what the template takes with the least adaptation."""
        for support in self._candidates(given=bool(tools)):
            taken = adapted(turns, support, self.call_format, tools)
            if not self._holds(taken, support):
                continue
            try:
                return self._written(taken, support, tools) + self._opening
            except Exception:  # noqa: BLE001, S112 - any program's; another form may pass
                continue
        try:
            self._written(turns, Support(tools=True, calls=CallStyle()), tools)
        except Exception as error:
            # A template is a program: it can divide by zero as well as refuse.
            raise BadRequest(
                f"The model's chat template refuses these messages: {error}.",
                hint="Many templates want user and assistant turns to alternate.",
            ) from error
        raise BadRequest(
            "The model's chat template leaves a part of these messages out, or makes an empty "
            "prompt of them.",
            hint="Pass chat_template= with one that shows every turn.",
        )

    def _candidates(self, *, given: bool) -> Iterator[Support]:
        if given not in self._supports:
            self._supports[given] = probed(self._holds, given=given, known=self._knows_calls)
        best = self._supports[given]
        plain = Support(parts=best.parts, tools=best.tools)
        yield best
        yield replace(best, calls=None, results=False)
        yield plain
        yield replace(plain, tools=False)

    def _missing_opening(self) -> str:
        """What begins an answer, where the template does not write it when asked to."""
        try:
            (user, answer), (_, mark) = hollow([_USER, _ANSWER])
            before, after = (self._written(turns, Support()) for turns in ([user], [user, answer]))
            if before != self._written([user], Support(), opened=False):
                return ""
        except Exception:  # noqa: BLE001 - any program's
            return ""
        begun = after.removeprefix(before).partition(mark)[0].rstrip(" ")
        # Punctuation alone belongs to what is said; whoever speaks has a name.
        named = any(map(str.isalpha, begun))
        return begun if named and mark in after and after.startswith(before) else ""

    def _held(self) -> int:
        turns, supports = ((_USER,), (_SYSTEM, _USER)), (Support(), Support(parts=True))
        return sum(self._holds(*each) for each in product(turns, supports))

    def _holds(self, turns: Sequence[Turn], support: Support) -> bool:
        emptied, marks = hollow(turns)
        try:
            return shows(self._written(emptied, support, PROBE_TOOLS), marks, support)
        except Exception:  # noqa: BLE001 - any program's
            return False

    def _written(
        self,
        turns: Sequence[Turn],
        support: Support,
        tools: Sequence[Json] = (),
        *,
        opened: bool = True,
    ) -> str:
        given = {**self._none, "tools": list(tools)} if support.tools and tools else self._none
        pieces, length = [], 0
        for piece in self._template.generate(
            messages=values(turns, support), add_generation_prompt=opened, **given, **self._tokens
        ):
            length += len(piece) or 1
            if length > _LONGEST_PROMPT:
                raise TemplateError("it does not end")
            pieces.append(piece)
        return "".join(pieces)


class _Generation(Extension):
    """``{% generation %}`` marks what the model wrote, for training; here it says nothing."""

    tags = {"generation"}  # noqa: RUF012 - Jinja's own

    def parse(self, parser: Parser) -> list[Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _environment() -> ImmutableSandboxedEnvironment:
    # What Hugging Face's own renderer offers: templates are written against it.
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols, _Generation]
    )
    environment.filters["tojson"] = _tojson
    environment.globals["raise_exception"] = _raise
    environment.globals["strftime_now"] = lambda fmt: datetime.now().astimezone().strftime(fmt)
    return environment


def _tojson(
    value: object,
    ensure_ascii: bool = False,  # noqa: FBT001, FBT002 - as templates call it
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,  # noqa: FBT001, FBT002 - as templates call it
) -> str:
    return json.dumps(
        value,
        ensure_ascii=ensure_ascii,
        indent=indent,
        separators=separators,
        sort_keys=sort_keys,
    )


def _raise(message: str) -> NoReturn:
    raise TemplateError(message)
