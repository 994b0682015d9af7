"""Answers with a form: JSON Schema, JSON, regex, and Python types."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Final

from aideon_testing.conformance import samples
from aideon_testing.conformance.forms import check_calls, check_form, check_json, check_stream
from aideon_testing.conformance.promises import Broken, hold, promise
from aideon_testing.conformance.subject import HOWS

if TYPE_CHECKING:
    from aideon_core.types import Json
    from aideon_testing.conformance.subject import Subject

_PROMPT: Final = "Ada is 36 years old and lives in Oslo. Describe this as JSON."


class OutputBodies:
    """What is asked for as a form has it."""

    @promise("json_schema", form=tuple(samples.SCHEMAS), how=HOWS)
    def test_json_schema(self, subject: Subject, form: str, how: str) -> None:
        """A JSON Schema is held to: objects, nesting, arrays, enums, anyOf and $ref."""
        schema = samples.SCHEMAS[form]
        check_form(subject.ask(_PROMPT, how, response_format=_format(schema)).completion, schema)

    @promise("json_object", how=HOWS)
    def test_json_object(self, subject: Subject, how: str) -> None:
        """JSON mode gives one JSON object and nothing around it."""
        prompt = 'Answer with a JSON object with one key "name" and a short text.'
        form = {"type": "json_object"}
        answer = subject.ask(prompt, how, response_format=form).completion
        # Any JSON object may be a long one; the limit is no fault of the form.
        if answer.finish_reason != "length":
            check_json(answer.text, {"type": "object"}, "The answer's words")
        else:
            hold(answer.text.lstrip().startswith("{"), f"No object began: {answer.text!r}")

    @promise("regex", how=HOWS)
    def test_regex(self, subject: Subject, how: str) -> None:
        """A regex matches the whole answer, which is the value."""
        pattern = re.compile(samples.PATTERN)
        answer = subject.ask("When did Ada marry? A date.", how, output_type=pattern).completion
        hold(pattern.fullmatch(answer.text), f"{answer.text!r} does not match {pattern.pattern}.")
        hold(answer.value == answer.text, f"The value is {answer.value!r}.")

    @promise("json_schema", kind=tuple(samples.TYPES), how=HOWS)
    def test_output_type(self, subject: Subject, kind: str, how: str) -> None:
        """A pydantic model, a dataclass or a TypedDict is what the answer's value is one of."""
        wanted, expected = samples.TYPES[kind]
        answer = subject.ask(_PROMPT, how, output_type=wanted).completion
        hold(isinstance(answer.value, expected), f"The value is {answer.value!r}.")

    @promise("json_schema")
    def test_output_type_of_async_clients(self, subject: Subject) -> None:
        """Awaiting clients read the same value, whole and streamed."""
        wanted, expected = samples.TYPES["pydantic"]
        for how in HOWS:
            answer = subject.ask_awaiting(_PROMPT, how, output_type=wanted)
            value = answer.completion.value
            hold(isinstance(value, expected), f"The value is {value!r}, asked for {how}.")

    @promise("json_schema")
    def test_partial_values(self, subject: Subject) -> None:
        """While a stream runs its value grows, and ends as what the whole text says."""
        schema = samples.SCHEMAS["object"]
        answer = subject.ask(_PROMPT, "streamed", output_type=schema)
        check_stream(answer)
        # It is one object that grows, so that only its last state is here to look at.
        hold(answer.values, "The stream had no chunk.")
        last, final = answer.values[-1], answer.completion.value
        hold(last == final, f"The last partial value is {last!r}, the value {final!r}.")
        hold(final == json.loads(answer.completion.text), f"The value {final!r} is not the text's.")

    @promise("tools", "json_schema", how=HOWS)
    def test_tools_and_a_form_together(self, subject: Subject, how: str) -> None:
        """With tools and a form, sound calls come or the form does; with "none", the form."""
        schema = samples.SCHEMAS["object"]
        answer = subject.ask(_PROMPT, how, tools=samples.TWO, output_type=schema).completion
        if answer.tool_calls:
            check_calls(answer, samples.TWO)
            hold(answer.value is None, f"Calls came with the value {answer.value!r}.")
        else:
            check_json(json.dumps(answer.value), schema, "The value's words")
        answer = subject.ask(
            _PROMPT,
            how,
            tools=samples.TWO,
            tool_choice="none",
            output_type=schema,
        ).completion
        check_json(json.dumps(answer.value), schema, "The value's words")

    @promise("tools", "tool_choice", "json_schema")
    def test_a_required_call_comes_before_the_form(self, subject: Subject) -> None:
        """A form does not keep a required call from coming."""
        answer = subject.ask(
            "What is the weather in Oslo?",
            tools=samples.TWO,
            tool_choice="required",
            output_type=samples.SCHEMAS["object"],
        ).completion
        check_calls(answer, samples.TWO)

    @promise("prefix", "json_schema")
    def test_a_form_goes_on_from_a_prefix(self, subject: Subject) -> None:
        """Prefix and answer together have the form, from the middle of a text on."""
        schema, prefix = samples.SCHEMAS["object"], '{"name": "Ad'
        answer = subject.ask(_PROMPT, prefix=prefix, response_format=_format(schema)).completion
        check_json(prefix + answer.text, schema, "Prefix and answer")

    @promise("json_schema")
    def test_a_limit_does_not_pass_for_an_answer(self, subject: Subject) -> None:
        """JSON that max_tokens cut off ends with "length", and is not closed in silence."""
        form = _format(samples.SCHEMAS["nested"])
        answer = subject.ask(_PROMPT, response_format=form, max_tokens=3).completion
        hold(answer.finish_reason == "length", f"It ended with {answer.finish_reason!r}.")
        try:
            check_json(answer.text, samples.SCHEMAS["nested"], "")
        except Broken:
            return
        raise Broken(f"Three tokens came to a whole answer: {answer.text!r}")


def _format(schema: Json) -> Json:
    named = {"name": "answer", "schema": schema, "strict": True}
    return {"type": "json_schema", "json_schema": named}
