"""What a request asks of the local model: its prompt in tokens, and the form of its answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aideon_core.backends.llama_cpp.forms import grammar
from aideon_core.backends.llama_cpp.forms.narrowing import narrowed
from aideon_core.errors import BadRequest, InvalidOutput
from aideon_core.schema import Output
from aideon_core.tools.streaming import CallStream

if TYPE_CHECKING:
    from aideon_core.backends.llama_cpp.forms.grammar import Grammar
    from aideon_core.backends.llama_cpp.model import Model
    from aideon_core.backends.llama_cpp.prompts.formats import CallFormat
    from aideon_core.backends.llama_cpp.prompts.template import ChatTemplate
    from aideon_core.types import Json, Request


@dataclass(frozen=True, slots=True)
class Asked:
    """A request as the model gets it.

    Attributes:
        request: the request.
        tokens: the prompt, with the prefix where there is one.
        tools: the schemas of the arguments of the tools it may call, by their names.
        call_format: how the model writes calls.
        grammar: what the whole answer is held to, None where it is free.
        opens_thought: whether the prompt ends inside a thought.
    """

    request: Request
    tokens: tuple[int, ...]
    tools: Mapping[str, Json]
    call_format: CallFormat
    grammar: Grammar | None
    opens_thought: bool

    @property
    def one_call(self) -> bool:
        """Whether the answer may call no more than one tool."""
        return self.request.parallel_tool_calls is False

    def call_stream(self) -> CallStream | None:
        """What reads the calls out of the answer, None where there can be none."""
        if not self.tools:
            return None
        return CallStream(self.tools, parallel=not self.one_call)

    def arguments(self, name: str, closing: str) -> Grammar:
        """What the arguments of a tool are held to, up to the end of the call's object."""
        # The model has chosen how it writes JSON by now.
        return grammar.arguments(self.tools[name], closing, flexible=True)

    def call_of(self, name: str) -> Grammar:
        """What a call of one tool is held to, from its first character on."""
        return grammar.calls(
            self.call_format, {name: self.tools[name]}, parallel=False, flexible=True
        )

    def faults(self, text: str, calls: CallStream | None) -> tuple[str, ...]:
        """What is wrong with an answer where its form could not be enforced while it was written.

        An ``output_type`` is checked by whoever reads it, and is not looked at here.
        """
        if calls is not None and calls.calls:
            wrong = ((call.name, calls.invalid(call)) for call in calls.calls)
            return tuple(f"The arguments of {name!r}: {fault}" for name, fault in wrong if fault)
        schema = _schema(self.request)
        if schema is None or self.request.output is not None or self.grammar is None:
            return ()
        try:
            Output.of(schema).read(text)
        except InvalidOutput as error:
            return (f"The answer does not fit the response_format: {error.message}",)
        return ()


def ask(model: Model, template: ChatTemplate, request: Request) -> Asked:
    """Put a request into tokens and grammar.

    Raises:
        BadRequest: the template refuses the messages, or the form is none.
    """
    tools = _tools(request)
    prompt = template.render(
        request.messages,
        model.control,
        tools=request.tools,
        tool_choice=request.tool_choice,
        prefix=request.prefix,
    )
    tokens = tuple(model.tokenize(prompt.parts))
    if not tokens:
        raise BadRequest(
            "The prompt is empty once the chat template is applied.",
            hint="Send a message with text, or check chat_template=.",
        )
    written = template.call_format
    held = _held(request, tools, written)
    return Asked(request, tokens, tools, written, held, prompt.opens_thought)


def _tools(request: Request) -> dict[str, Json]:
    if request.tool_choice == "none":
        return {}
    # A prefix may have been written by another model, which may have told more than was asked.
    whole = request.prefix is None
    found: dict[str, Json] = {}
    for at, tool in enumerate(request.tools):
        function = tool.get("function", tool)
        name = function.get("name")
        if not isinstance(name, str) or not name:
            raise BadRequest(f"tools[{at}] has no name.", param=f"tools[{at}].function.name")
        schema = function.get("parameters") or {"type": "object", "properties": {}}
        found[name] = narrowed(schema) if whole else schema
    return found


def _held(request: Request, tools: Mapping[str, Json], written: CallFormat) -> Grammar | None:
    form = _form(request)
    choice = request.tool_choice
    if not tools:
        return form
    flexible = request.prefix is not None
    parallel = request.parallel_tool_calls is not False
    if choice in (None, "auto", "required"):
        # Made for a free answer too: a tool's broken schema is told before anything is written.
        calls = grammar.calls(written, tools, parallel=parallel, flexible=flexible)
        if choice == "required":
            return calls
        return None if form is None else grammar.either(calls, form)
    name = _named(choice)
    if name not in tools:
        raise BadRequest(
            f"tool_choice names {name!r}, which is not among the tools.",
            hint=f"There are {', '.join(tools)}.",
            param="tool_choice",
        )
    return grammar.calls(written, {name: tools[name]}, parallel=False, flexible=flexible)


def _named(choice: object) -> str:
    if isinstance(choice, Mapping) and isinstance(choice.get("function"), Mapping):
        return str(choice["function"].get("name"))
    return str(choice)


def _schema(request: Request) -> Json | None:
    """The schema in a request's form, None where it has none."""
    asked = request.response_format or {}
    schema = (asked.get("json_schema") or {}).get("schema", asked.get("schema"))
    return schema if asked.get("type") in ("json_schema", "json_object") else None


def _form(request: Request) -> Grammar | None:
    asked = request.response_format or {}
    flexible = request.prefix is not None
    schema = _schema(request)
    match asked.get("type", "text"):
        case "text":
            return None
        case "json_schema" | "json_object" if schema is not None:
            return grammar.json_schema(schema if flexible else narrowed(schema), flexible=flexible)
        case "json_object":
            # An output of any JSON is asked for as a JSON object on the wire.
            any_value = request.output is not None and request.output.schema == {}
            return grammar.any_json(object_only=not any_value, flexible=flexible)
        case "json_schema":
            raise BadRequest(
                "response_format has no schema.", param="response_format.json_schema.schema"
            )
        case "regex":
            return grammar.regex(str(asked.get("pattern", "")))
        case other:
            raise BadRequest(
                f"response_format has the type {other!r}.",
                hint="It takes text, json_object, json_schema or regex.",
                param="response_format.type",
            )
