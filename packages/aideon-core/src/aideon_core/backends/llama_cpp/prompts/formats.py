"""How models write tool calls, and the form for those that were never taught one.

A model that learned to call tools learned one way to write it, which its chat template shows.
For the others there is the generic form: a text in the system turn lists the tools, one JSON
object a line, and says how to call one; calls are JSON objects between ``<tool_call>`` and
``</tool_call>``; results come in a user turn, between ``<tool_response>`` and
``</tool_response>``.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

    from aideon_core.types import Json


@dataclass(frozen=True, slots=True)
class CallFormat:
    """How a model writes calls: ``begin``, the calls with ``separator`` between them, ``end``.

    A call is ``head`` with its name in the place of ``{name}``, the JSON text of its
    arguments, and ``tail``.
    """

    begin: str
    head: str
    tail: str
    separator: str
    end: str

    def written(self, calls: Iterable[tuple[str, str]]) -> str:
        """Calls as the model writes them.

        Args:
            calls: their names, and their arguments as JSON text.
        """
        each = (self.head.replace("{name}", name) + text + self.tail for name, text in calls)
        return self.begin + self.separator.join(each) + self.end

    @property
    def texts(self) -> tuple[str, ...]:
        """What is written around names and arguments."""
        return (self.begin, *self.head.split("{name}"), self.tail, self.separator, self.end)


_OBJECT: Final = '{"name": "{name}", "arguments": '


def _listed(begin: str, end: str) -> CallFormat:
    return CallFormat(f"{begin}[", _OBJECT, "}", ", ", f"]{end}")


def _tagged(head: str, tail: str) -> CallFormat:
    return CallFormat("", head, tail, "\n", "")


GENERIC: Final = _tagged(f"<tool_call>\n{_OBJECT}", "}\n</tool_call>")
"""The form that is described to models that know none: that of Hermes and Qwen."""

_LLAMA: Final = _tagged('{"name": "{name}", "parameters": ', "}")
_MISTRAL: Final = _listed("[TOOL_CALLS]", "")
_MISTRAL_NAMED: Final = CallFormat("", "[TOOL_CALLS]{name}[ARGS]", "", "", "")
_GRANITE: Final = _listed("<|tool_call|>", "")
_PHI: Final = _listed("<|tool_call|>", "<|/tool_call|>")
_LFM: Final = _listed("<|tool_call_start|>", "<|tool_call_end|>")
_APRIEL: Final = _listed("<tool_calls>", "</tool_calls>")
_MINIMAX: Final = CallFormat("<tool_calls>\n", _OBJECT, "}", "\n", "\n</tool_calls>")
_QWEN_CODER: Final = _tagged("<tool_call>\n<function={name}>\n", "\n</function>\n</tool_call>")
_FUNCTIONARY: Final = CallFormat("", "<function={name}>", "</function>", "", "")
_GLM: Final = _tagged("<tool_call>{name}\n", "\n</tool_call>")
# DeepSeek's tokens have a wide bar, as its template writes them.
_DEEPSEEK: Final = CallFormat(
    "<｜tool▁calls▁begin｜>",  # noqa: RUF001 - theirs
    "<｜tool▁call▁begin｜>function<｜tool▁sep｜>{name}\n```json\n",  # noqa: RUF001 - theirs
    "\n```<｜tool▁call▁end｜>",  # noqa: RUF001 - theirs
    "\n",
    "<｜tool▁calls▁end｜>",  # noqa: RUF001 - theirs
)
_DEEPSEEK_31: Final = CallFormat(
    "<｜tool▁calls▁begin｜>",  # noqa: RUF001 - theirs
    "<｜tool▁call▁begin｜>{name}<｜tool▁sep｜>",  # noqa: RUF001 - theirs
    "<｜tool▁call▁end｜>",  # noqa: RUF001 - theirs
    "",
    "<｜tool▁calls▁end｜>",  # noqa: RUF001 - theirs
)

# The first row counts whose texts are all in the template, so the particular come first.
_KNOWN: Final[tuple[tuple[tuple[str, ...], CallFormat], ...]] = (
    (("<｜tool▁call▁begin｜>", "```json"), _DEEPSEEK),  # noqa: RUF001 - theirs
    (("<｜tool▁call▁begin｜>",), _DEEPSEEK_31),  # noqa: RUF001 - theirs
    (("[TOOL_CALLS]", "[ARGS]"), _MISTRAL_NAMED),
    (("[TOOL_CALLS]",), _MISTRAL),
    (("<|tool_call_start|>",), _LFM),
    (("<|tool_list_start|>",), _LFM),
    (("List of tools: ",), _LFM),
    (("<|/tool_call|>",), _PHI),
    (("<|tool|>", "<|/tool|>"), _PHI),
    (("<|tool_call|>",), _GRANITE),
    (("<tool_calls>[",), _APRIEL),
    (("<tool_calls>",), _MINIMAX),
    (("<tool_call>", "<function="), _QWEN_CODER),
    (("<tool_call>", "<arg_key>"), _GLM),
    (("<tool_call>", '"name"'), GENERIC),
    (("<tool_call>", r"\"name\""), GENERIC),
    (("<function=",), _FUNCTIONARY),
)
_LLAMA_SHOWN: Final = re.compile(r"""\{"name": [^{}'"]{0,80}"parameters": """)

FORMATS: Final = tuple(dict.fromkeys((*(each for _, each in _KNOWN), _LLAMA)))
"""Every form that is known."""


def format_of(template_source: str) -> CallFormat | None:
    """How the model was taught to write calls, told by the text of its chat template.

    None where the template shows no calls, or shows them in a form that is not known.
    """
    for texts, known in _KNOWN:
        if all(text in template_source for text in texts):
            return known
    return _LLAMA if _LLAMA_SHOWN.search(template_source) else None


def described(tools: Iterable[Json], call_format: CallFormat) -> str:
    """The generic form's text about tools, for the system turn.

    Args:
        tools: as OpenAI's API defines them.
        call_format: how they are to be called.
    """
    lines = "\n".join(json.dumps(tool.get("function", tool), ensure_ascii=False) for tool in tools)
    example = call_format.written([("NAME", "ARGUMENTS")])
    return (
        f"You can call these functions, described by one JSON object a line:\n{lines}\n\n"
        "To call one, write its name for NAME and a JSON object that fits its parameters for "
        f"ARGUMENTS, exactly in this form:\n{example}\n\n"
        "What it gives comes back between <tool_response> and </tool_response>. Call a function "
        "only where it helps; otherwise answer as usual."
    )


def result_told(text: str, name: str | None) -> str:
    """What a tool gave, in the generic form."""
    opener = f'<tool_response name="{name}">' if name else "<tool_response>"
    return f"{opener}\n{text}\n</tool_response>"
