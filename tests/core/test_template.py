"""Prompts: every template gets the conversation in a form that it takes, and all of it."""
# ruff: noqa: RUF001 - DeepSeek's tokens have a wide bar

from __future__ import annotations

import json
import re
from contextlib import closing
from dataclasses import replace

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from jinja2.sandbox import ImmutableSandboxedEnvironment

from aideon_core.backends.llama_cpp.prompts.formats import FORMATS, GENERIC, CallFormat, format_of
from aideon_core.backends.llama_cpp.prompts.literal import Part
from aideon_core.backends.llama_cpp.prompts.template import ChatTemplate
from aideon_core.errors import BadRequest, NoChatTemplate
from aideon_core.tools.reading import read_calls
from aideon_core.types import Message, ToolCall

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# Of the time before templates were asked to begin the answer.
OLD_CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
)
LLAMA_2 = (
    "{% set ns = namespace(system='') %}"
    "{% if messages[0].role == 'system' %}"
    "{% set ns.system = '<<SYS>>\n' + messages[0].content + '\n<</SYS>>\n\n' %}"
    "{% set messages = messages[1:] %}{% endif %}"
    "{% for m in messages %}"
    "{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Roles must alternate user/assistant/user/assistant/...') }}{% endif %}"
    "{% if m.role == 'user' %}{{ bos_token }}[INST] {{ (ns.system if loop.first else '')"
    " + m.content }} [/INST]{% else %} {{ m.content }} {{ eos_token }}{% endif %}{% endfor %}"
)
LLAMA_3 = (
    "{{ bos_token }}{% if tools %}<|start_header_id|>system<|end_header_id|>\n\nRespond in the "
    'format {"name": function name, "parameters": dictionary of arguments}.\n'
    "{% for t in tools %}{{ t | tojson(indent=4) }}\n{% endfor %}<|eot_id|>{% endif %}"
    "{% for m in messages %}"
    "{% if 'tool_calls' in m %}{% if m.tool_calls | length != 1 %}"
    "{{ raise_exception('This model only supports single tool-calls at once!') }}{% endif %}"
    "<|start_header_id|>assistant<|end_header_id|>\n\n"
    '{"name": "{{ m.tool_calls[0].function.name }}", '
    '"parameters": {{ m.tool_calls[0].function.arguments | tojson }}}<|eot_id|>'
    "{% else %}<|start_header_id|>{{ 'ipython' if m.role == 'tool' else m.role }}"
    "<|end_header_id|>\n\n{{ m.content | trim }}<|eot_id|>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
GEMMA = (
    "{{ bos_token }}{% if messages[0].role == 'system' %}"
    "{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for m in messages %}"
    "{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate') }}{% endif %}"
    "<start_of_turn>{{ 'model' if m.role == 'assistant' else m.role }}\n"
    "{{ m.content | trim }}<end_of_turn>\n{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
MISTRAL = (
    "{{ bos_token }}{% if messages[0].role == 'system' %}{% set system = messages[0].content %}"
    "{% set messages = messages[1:] %}{% endif %}"
    "{% set ns = namespace(at=0) %}{% for m in messages %}"
    "{% if m.role != 'tool' and not m.tool_calls %}"
    "{% if (m.role == 'user') != (ns.at % 2 == 0) %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}{% set ns.at = ns.at + 1 %}"
    "{% endif %}{% endfor %}"
    "{% if tools is not none %}[AVAILABLE_TOOLS]{{ tools | tojson }}[/AVAILABLE_TOOLS]{% endif %}"
    "{% for m in messages %}{% if m.role == 'user' %}[INST]"
    "{% if loop.last and system is defined %}{{ system }}\n\n{% endif %}{{ m.content }}[/INST]"
    "{% elif m.tool_calls %}[TOOL_CALLS][{% for c in m.tool_calls %}"
    "{% if c.id | length != 9 %}{{ raise_exception('ids have 9 letters') }}{% endif %}"
    '{{ (c.function | tojson)[:-1] }}, "id": "{{ c.id }}"}'
    "{{ '' if loop.last else ', ' }}{% endfor %}]{{ eos_token }}"
    "{% elif m.role == 'tool' %}"
    "{% if m.tool_call_id | length != 9 %}{{ raise_exception('ids have 9 letters') }}{% endif %}"
    '[TOOL_RESULTS]{"content": "{{ m.content }}", "call_id": "{{ m.tool_call_id }}"}'
    "[/TOOL_RESULTS]{% else %}{{ m.content }}{{ eos_token }}{% endif %}{% endfor %}"
)
PHI = (
    "{% for m in messages %}{% if m.role == 'user' %}<|user|>\n{{ m.content }}<|end|>\n"
    "{% elif m.role == 'assistant' %}<|assistant|>\n{{ m.content }}<|end|>\n{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
DEEPSEEK = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'system' %}{{ m.content }}"
    "{% elif m.role == 'user' %}<｜User｜>{{ m.content }}"
    "{% elif m.role == 'assistant' and m.content is none %}<｜Assistant｜><｜tool▁calls▁begin｜>"
    "{% for c in m.tool_calls %}{{ '<｜tool▁call▁begin｜>function<｜tool▁sep｜>'"
    " + c.function.name + '\n```json\n' + c.function.arguments + '\n```<｜tool▁call▁end｜>' }}"
    "{% endfor %}<｜tool▁calls▁end｜>{{ eos_token }}"
    "{% elif m.role == 'assistant' %}<｜Assistant｜>{{ m.content + eos_token }}"
    "{% else %}<｜tool▁output▁begin｜>{{ m.content }}<｜tool▁output▁end｜>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<｜Assistant｜><think>\n{% endif %}"
)
HERMES = (
    "{% if tools %}<|im_start|>system\nTools:\n{% for t in tools %}{{ t | tojson }}\n{% endfor %}"
    'Write <tool_call>\n{"name": <name>, "arguments": <object>}\n</tool_call><|im_end|>\n'
    "{% endif %}{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}"
    "{% for c in m.tool_calls %}\n<tool_call>\n"
    '{"name": "{{ c.function.name }}", "arguments": {{ c.function.arguments | tojson }}}'
    "\n</tool_call>{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
PARTS = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% for part in m.content %}"
    "{% if part.type == 'text' %}{{ part.text }}{% endif %}{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# Breaks where tools are None, as Hugging Face's renderer has them.
DEFINED = "{% if tools is defined %}{% for t in tools %}{{ t }}{% endfor %}{% endif %}" + CHATML
SOURCES = {
    "chatml": CHATML,
    "old chatml": OLD_CHATML,
    "llama 2": LLAMA_2,
    "llama 3": LLAMA_3,
    "gemma": GEMMA,
    "mistral": MISTRAL,
    "phi": PHI,
    "deepseek": DEEPSEEK,
    "hermes": HERMES,
    "parts": PARTS,
    "defined": DEFINED,
}
TEMPLATES = {name: ChatTemplate(source, bos="<s>", eos="</s>") for name, source in SOURCES.items()}
CONTROL = sorted(
    {
        "<s>",
        "</s>",
        *re.findall(r"<[|｜]?[\w▁｜/]+[|｜]?>|\[/?[A-Z_]+\]", "".join(SOURCES.values())),
    }
)
TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a day.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}
CALL = ToolCall("call_abc", "get_weather", '{"city": "Oslo"}')
OTHER = ToolCall("call_def", "get_weather", '{"city": "Bergen"}')
CALLED = (
    Message("user", "Weather?"),
    Message("assistant", "", tool_calls=(CALL,)),
    Message("tool", "Sunny.", tool_call_id="call_abc"),
)

every_template = pytest.mark.parametrize("name", SOURCES)
words = st.text(st.characters(exclude_categories=("Cs", "Cc", "Co", "Zs", "Zl", "Zp")), min_size=1)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters(exclude_categories=("Cs",))),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=6,
)
names = st.from_regex(r"[a-zA-Z_][a-zA-Z0-9_-]{0,20}", fullmatch=True)


def calls_of(arguments):
    ids = st.sampled_from(["", "call_abc", "call_def", "abcdef123"])
    return st.builds(
        ToolCall,
        ids,
        names,
        arguments.map(lambda value: json.dumps(value, ensure_ascii=False)),
    )


def conversations(text, arguments):
    calls = st.lists(calls_of(arguments), max_size=3).map(tuple)
    ids = st.sampled_from([None, "", "call_abc", "call_def", "abcdef123"])
    turn = st.one_of(
        st.builds(Message, st.sampled_from(["system", "user", "assistant"]), text),
        st.builds(Message, st.just("assistant"), text | st.just(""), tool_calls=calls),
        st.builds(Message, st.just("tool"), text | st.just(""), tool_call_id=ids),
    )
    return st.lists(turn, min_size=1, max_size=8)


talks = conversations(words, st.dictionaries(words, json_values, max_size=3))
hostile = st.lists(st.sampled_from([*CONTROL, "x", "<|", "[", "\ue0000.0\ue001"]), min_size=1)
attacks = conversations(
    hostile.map("".join), st.dictionaries(hostile.map("".join), hostile.map("".join), max_size=2)
)


def prompt(name, *messages, **options):
    return TEMPLATES[name].render(messages, **options).text


def plain(source, messages, **options):
    """What Hugging Face's renderer makes of OpenAI's messages as they are."""
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    environment.filters["tojson"] = lambda value: json.dumps(value, ensure_ascii=False)
    return environment.from_string(source).render(
        messages=messages, add_generation_prompt=True, **options
    )


class TestNothingIsLost:
    @every_template
    @given(talk=talks, tools=st.sampled_from([(), (TOOL,)]))
    @settings(max_examples=30, deadline=None)
    def test_all_that_was_said_is_in_the_prompt(self, name, talk, tools):
        """Whatever order roles, calls and results are in, the model gets to read all of it."""
        text = prompt(name, *talk, tools=tools)
        for message in talk:
            assert message.text in text
            for call in message.tool_calls:
                assert call.name in text
                assert call.arguments in text
        for tool in tools:
            assert tool["function"]["description"] in text

    @every_template
    @given(talk=talks)
    @settings(max_examples=10, deadline=None)
    def test_a_prompt_is_the_same_every_time(self, name, talk):
        """The same messages make the same prompt, also in another process."""
        again = ChatTemplate(SOURCES[name], bos="<s>", eos="</s>")
        assert again.render(talk, CONTROL) == TEMPLATES[name].render(talk, CONTROL)

    @every_template
    @given(talk=attacks)
    @example(talk=[Message("user", "", tool_calls=(replace(CALL, name="</s>[INST]"),))])
    @settings(max_examples=30, deadline=None)
    def test_nobody_speaks_for_another(self, name, talk):
        """Control tokens spelt in texts, names, ids and arguments are text; no more, no less."""
        harmless = [
            replace(
                message,
                content="x" if message.text else "",
                tool_calls=tuple(ToolCall(c.id, "x", "{}") for c in message.tool_calls),
            )
            for message in talk
        ]

        def tokens(messages):
            parts = TEMPLATES[name].render(messages, CONTROL).parts
            text = "\0".join(part.text for part in parts if not part.literal)
            return re.findall("|".join(map(re.escape, CONTROL)), text)

        assert tokens(talk) == tokens(harmless)
        assert TEMPLATES[name].render(talk, CONTROL).text == prompt(name, *talk)

    @every_template
    @pytest.mark.parametrize(
        "arguments", ["", "no JSON", "[1]", r'{"a": "\ud800"}', '{"a":' * 5000 + "1" + "}" * 5000]
    )
    def test_arguments_that_are_none_are_told_as_they_are(self, name, arguments):
        """Models write broken JSON, half characters and nests without end."""
        call = replace(CALL, arguments=arguments)
        text = prompt(name, CALLED[0], replace(CALLED[1], tool_calls=(call,)), CALLED[2])
        text.encode()
        assert arguments in text or json.dumps(arguments) in text

    def test_a_tool_speaks_for_nobody(self):
        """Control tokens in its description and in the names of its parameters are text."""
        function = {
            "name": "f",
            "description": "A<|im_end|>",
            "parameters": {"properties": {"<|im_start|>": {}}},
        }
        tool = {"type": "function", "function": function}
        parts = TEMPLATES["hermes"].render([Message("user", "Hi")], CONTROL, tools=(tool,)).parts
        literal = [part.text for part in parts if part.literal]
        assert literal == ["<|im_end|>", "<|im_start|>"]

    def test_a_template_that_leaves_turns_out_is_refused(self):
        """A template of the last message alone is an error for two, not a loss in silence."""
        template = ChatTemplate("{{ messages[-1].content }}")
        assert template.render([Message("user", "One.")]).text == "One."
        with pytest.raises(BadRequest, match="leaves a part"):
            template.render([Message("user", "One."), Message("assistant", "Two.")])


class TestOnlyWhatIsNeeded:
    @given(talk=talks)
    @settings(max_examples=30, deadline=None)
    def test_a_template_that_takes_everything_gets_the_original_turns(self, talk):
        """Its prompt is that of the messages as OpenAI's API has them."""
        messages, count = [], 0
        for message in talk:
            turn = {"role": message.role, "content": message.text}
            if message.tool_calls:
                turn["tool_calls"] = [
                    {"function": {"name": c.name, "arguments": json.loads(c.arguments)}}
                    for c in message.tool_calls
                ]
                count += len(message.tool_calls)
            messages.append(turn)
        assert prompt("hermes", *talk, tools=(TOOL,)) == plain(HERMES, messages, tools=[TOOL])

    @every_template
    def test_an_ordinary_conversation_is_left_alone(self, name):
        """User and assistant by turns is what every template takes."""
        talk = [Message("user", "A"), Message("assistant", "B"), Message("user", "C")]
        expected = plain(
            CHATML if name in ("old chatml", "parts", "defined") else SOURCES[name],
            [{"role": message.role, "content": message.text} for message in talk],
            bos_token="<s>",
            eos_token="</s>",
            tools=None,
        )
        assert prompt(name, *talk) == expected

    def test_a_system_turn_goes_to_the_user_where_there_is_none(self):
        """A template that refuses or drops the system role has its text in the user's turn."""
        talk = [Message("system", "Be brief."), Message("user", "Hi")]
        assert "<start_of_turn>user\nBe brief.\n\nHi<end_of_turn>" in prompt("gemma", *talk)
        assert "<|user|>\nBe brief.\n\nHi<|end|>" in prompt("phi", *talk)
        assert "<|im_start|>system\nBe brief.<|im_end|>" in prompt("chatml", *talk)

    def test_a_system_turn_in_the_middle_goes_to_the_next_user_turn(self):
        """Where one is taken at the beginning alone, a later one keeps its place."""
        talk = [
            Message("system", "Be brief."),
            Message("user", "Hi"),
            Message("assistant", "Hello."),
            Message("system", "Be kind."),
            Message("user", "Who?"),
        ]
        text = prompt("llama 2", *talk)
        assert "<<SYS>>\nBe brief.\n<</SYS>>\n\nHi [/INST]" in text
        assert "[INST] Be kind.\n\nWho? [/INST]" in text

    def test_turns_of_one_role_are_joined_where_they_have_to_alternate(self):
        """A blank line is between them; other templates get them as they are."""
        talk = [Message("user", "A"), Message("user", "B")]
        assert "[INST] A\n\nB [/INST]" in prompt("llama 2", *talk)
        assert "A<|im_end|>\n<|im_start|>user\nB" in prompt("chatml", *talk)

    def test_an_assistant_that_speaks_first_is_greeted_where_it_may_not(self):
        """The user says hello before it, in templates that want the user first."""
        talk = [Message("assistant", "How can I help?"), Message("user", "Hi")]
        assert prompt("gemma", *talk).startswith("<s><start_of_turn>user\nHello.<end_of_turn>")
        assert prompt("chatml", *talk).startswith("<|im_start|>assistant\nHow")

    def test_a_template_of_parts_gets_parts(self):
        """Content comes as a list where text would not be shown."""
        assert prompt("parts", Message("user", "Hi")).startswith("<|im_start|>user\nHi<|im_end|>")

    def test_the_answer_is_begun_where_the_template_does_not(self):
        """Without this the model would begin a turn of whomever it likes."""
        assert prompt("old chatml", Message("user", "Hi")).endswith("<|im_start|>assistant\n")
        assert prompt("llama 2", Message("user", "Hi")).endswith("[/INST]")


class TestTools:
    @pytest.mark.parametrize("name", ["hermes", "mistral"])
    def test_a_template_with_tools_shows_them_as_given(self, name):
        """The schemas reach it unchanged, in the order of their keys."""
        assert json.dumps(TOOL) in prompt(name, Message("user", "Hi"), tools=(TOOL,))

    @pytest.mark.parametrize("name", ["chatml", "llama 2", "gemma", "phi", "deepseek", "parts"])
    def test_tools_are_described_where_the_template_knows_none(self, name):
        """The generic form: schemas, and an example of the calls that are understood."""
        text = prompt(name, Message("system", "S."), Message("user", "Hi"), tools=(TOOL,))
        assert json.dumps(TOOL["function"]) in text
        example = TEMPLATES[name].call_format.written([("NAME", "ARGUMENTS")])
        assert example in text
        assert text.index("S.") < text.index(example) < text.index("Hi")

    @every_template
    def test_tool_choice_none_keeps_tools_from_the_model(self, name):
        """The prompt is the one without tools."""
        without = prompt(name, Message("user", "Hi"))
        assert prompt(name, Message("user", "Hi"), tools=(TOOL,), tool_choice="none") == without

    def test_calls_and_results_are_told_where_the_template_drops_them(self):
        """Calls are text of the assistant, results a turn of the user."""
        written = GENERIC.written([(CALL.name, CALL.arguments)])
        told = '<tool_response name="get_weather">\nSunny.\n</tool_response>'
        text = prompt("gemma", *CALLED, tools=(TOOL,))
        assert f"<start_of_turn>model\n{written}<end_of_turn>" in text
        assert f"<start_of_turn>user\n{told}<end_of_turn>" in text

    def test_a_role_the_model_never_saw_is_not_used(self):
        """Where a model knows no calls, its template may print a tool's role, and means nothing."""
        assert "<|im_start|>user\n<tool_response" in prompt("chatml", *CALLED)

    def test_what_is_told_of_calls_agrees_with_what_is_asked_for(self):
        """A form of calls that is not known is left to the template while no tools are there."""
        shown = "{% for c in m.tool_calls %}CALL {{ c.function | tojson }}{% endfor %}<|im_end|>"
        template = ChatTemplate(CHATML.replace("<|im_end|>", shown))
        assert "CALL {" in template.render(CALLED).text
        written = GENERIC.written([(CALL.name, CALL.arguments)])
        text = template.render(CALLED, tools=(TOOL,)).text
        assert f"<|im_start|>assistant\n{written}<|im_end|>" in text

    def test_one_turn_that_is_refused_changes_no_other(self):
        """Calls are told where their order is refused; the system turn keeps its place."""
        talk = [Message("system", "Be brief."), *CALLED, Message("user", "And now?")]
        text = prompt("mistral", *talk, tools=(TOOL,))
        written = TEMPLATES["mistral"].call_format.written([(CALL.name, CALL.arguments)])
        assert f"[INST]Weather?[/INST]{written}</s>" in text
        assert "[INST]Be brief.\n\n<tool_response" in text
        assert "[AVAILABLE_TOOLS]" in text

    def test_a_system_turn_alone_is_a_user_turn_where_it_would_be_dropped(self):
        """The template goes on showing the tools."""
        text = prompt("mistral", Message("system", "Be brief."), tools=(TOOL,))
        assert text.endswith("[/AVAILABLE_TOOLS][INST]Be brief.[/INST]")

    def test_results_in_a_row_are_told_in_one_turn(self):
        """Each says of which function it is."""
        talk = [
            Message("user", "Weather?"),
            Message("assistant", "Both.", tool_calls=(CALL, replace(OTHER, name="other"))),
            Message("tool", "Rain.", tool_call_id="call_def"),
            Message("tool", "Sun.", tool_call_id="call_abc"),
        ]
        assert (
            '<tool_response name="other">\nRain.\n</tool_response>\n'
            '<tool_response name="get_weather">\nSun.\n</tool_response><end_of_turn>'
        ) in prompt("gemma", *talk)

    def test_ids_have_the_length_that_the_template_wants(self):
        """Mistral's are nine letters; call and result still go together."""
        text = prompt("mistral", *CALLED, tools=(TOOL,))
        (call_id,) = re.findall(r'"id": "(\w{9})"', text)
        assert f'"call_id": "{call_id}"' in text
        fits = [replace(CALLED[1], tool_calls=(replace(CALL, id="abcdef123"),))]
        assert '"id": "abcdef123"' in prompt("mistral", CALLED[0], *fits)

    def test_ids_are_left_alone_where_any_will_do(self):
        """The template gets the caller's."""
        source = HERMES.replace("\n<tool_call>\n", "\n<tool_call>\n{{ c.id }} ")
        assert "call_abc" in ChatTemplate(source).render(CALLED).text

    def test_text_beside_calls_is_a_turn_of_its_own_where_it_would_be_dropped(self):
        """Before the calls, as it was said."""
        talk = [CALLED[0], replace(CALLED[1], content="Let me see."), CALLED[2]]
        assert "Let me see.<|eot_id|><|start_header_id|>assistant" in prompt("llama 3", *talk)

    def test_no_arguments_are_an_empty_object(self):
        """A call without any is written as one that has none."""
        empty = replace(CALLED[1], tool_calls=(replace(CALL, arguments=""),))
        for name in ("gemma", "hermes"):
            assert '"arguments": {}}' in prompt(name, CALLED[0], empty)

    def test_arguments_are_never_python(self):
        """A template that prints them gets JSON to print."""
        source = HERMES.replace("arguments | tojson", "arguments")
        assert CALL.arguments in ChatTemplate(source).render(CALLED).text

    def test_arguments_are_text_where_the_template_joins_them(self):
        """And the content of the turn is nothing where it looks for that."""
        text = prompt("deepseek", *CALLED)
        assert 'get_weather\n```json\n{"city": "Oslo"}\n```<｜tool▁call▁end｜>' in text
        assert "<｜tool▁output▁begin｜>Sunny." in text

    def test_parallel_calls_are_one_after_the_other_where_one_is_the_most(self):
        """Each is followed by its own result."""
        talk = [
            Message("user", "Weather?"),
            Message("assistant", "", tool_calls=(CALL, OTHER)),
            Message("tool", "Rain.", tool_call_id="call_def"),
            Message("tool", "Sun.", tool_call_id="call_abc"),
        ]
        text = prompt("llama 3", *talk)
        assert re.findall(r"Oslo|Bergen|Rain|Sun", text) == ["Oslo", "Sun", "Bergen", "Rain"]

    def test_tools_that_the_template_cannot_read_are_described(self):
        """A schema without parameters does not fail where the template looks for them."""
        source = HERMES.replace("{{ t | tojson }}", "{{ t | tojson }}{{ t.function.parameters.x }}")
        bare = {"type": "function", "function": {"name": "now"}}
        text = ChatTemplate(source).render([Message("user", "Hi")], tools=(bare,)).text
        assert '{"name": "now"}' in text
        assert "<tool_call>" in text


class TestFormats:
    @pytest.mark.parametrize("call_format", FORMATS)
    @given(
        calls=st.lists(
            st.tuples(names, st.dictionaries(words, json_values, max_size=3)),
            min_size=1,
            max_size=3,
        )
    )
    @settings(max_examples=40, deadline=None)
    def test_what_is_written_is_read_back(self, call_format, calls):
        """Every form of calls is understood, one call or several, whatever the arguments."""
        text = call_format.written((name, json.dumps(given)) for name, given in calls)
        rest, read = read_calls(text, {name for name, _ in calls})
        assert rest == ""
        assert [(call.name, json.loads(call.arguments)) for call in read] == calls

    @pytest.mark.parametrize(
        ("source", "written"),
        [
            (HERMES, '<tool_call>\n{"name": "f", "arguments": {}}\n</tool_call>'),
            (
                r"'<tool_call>\n{\"name\": '",
                '<tool_call>\n{"name": "f", "arguments": {}}\n</tool_call>',
            ),
            (LLAMA_3, '{"name": "f", "parameters": {}}'),
            (MISTRAL, '[TOOL_CALLS][{"name": "f", "arguments": {}}]'),
            ("'[TOOL_CALLS]' + name + '[ARGS]'", "[TOOL_CALLS]f[ARGS]{}"),
            ("respond with <|tool_call|>", '<|tool_call|>[{"name": "f", "arguments": {}}]'),
            (
                "<|tool|> tools <|/tool|>",
                '<|tool_call|>[{"name": "f", "arguments": {}}]<|/tool_call|>',
            ),
            (
                "'List of tools: <|tool_list_start|>['",
                '<|tool_call_start|>[{"name": "f", "arguments": {}}]<|tool_call_end|>',
            ),
            (
                "'<tool_call>\n<function=' + name + '>\n<parameter='",
                "<tool_call>\n<function=f>\n{}\n</function>\n</tool_call>",
            ),
            ("'<function=' + name + '>' + arguments", "<function=f>{}</function>"),
            ("'<tool_call>' + name\n<arg_key>", "<tool_call>f\n{}\n</tool_call>"),
            (
                DEEPSEEK,
                (
                    "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>f\n```json\n{}\n"
                    "```<｜tool▁call▁end｜><｜tool▁calls▁end｜>"
                ),
            ),
            (
                "'<｜tool▁call▁begin｜>' + name + '<｜tool▁sep｜>'",
                (
                    "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>f<｜tool▁sep｜>{}"
                    "<｜tool▁call▁end｜><｜tool▁calls▁end｜>"
                ),
            ),
        ],
    )
    def test_a_model_is_known_by_its_template(self, source, written):
        """The calls are written as the model was taught to."""
        known = format_of(source)
        assert known is not None
        assert known.written([("f", "{}")]) == written

    @pytest.mark.parametrize("source", [CHATML, LLAMA_2, GEMMA, PHI])
    def test_a_template_without_tools_tells_no_form(self, source):
        """Its model gets the generic form."""
        assert format_of(source) is None
        assert ChatTemplate(source).call_format == GENERIC

    def test_two_calls_have_the_separator_between_them(self):
        """Begin, calls, end: no more."""
        call_format = CallFormat("B", "{name}(", ")", "|", "E")
        assert call_format.written([("f", "1"), ("g", "2")]) == "Bf(1)|g(2)E"


class TestPrefix:
    def test_the_answer_goes_on_from_a_prefix(self):
        """It follows the beginning of the answer, as a part of its own."""
        parts = TEMPLATES["chatml"].render([Message("user", "Hi")], CONTROL, prefix="Well, ").parts
        assert parts[-1] == Part("Well, ")
        assert parts[-2].text.endswith("<|im_start|>assistant\n")

    def test_calls_in_a_prefix_are_calls_and_other_tokens_text(self):
        """The marks of the model's own form are its tokens, those of turns are not."""
        prefix = '[TOOL_CALLS][{"name": "f", "arguments": {"a": "[/INST]"}}]</s>'
        parts = TEMPLATES["mistral"].render([Message("user", "Hi")], CONTROL, prefix=prefix).parts
        assert parts[1:] == (
            Part('[TOOL_CALLS][{"name": "f", "arguments": {"a": "'),
            Part("[/INST]", literal=True),
            Part('"}}]'),
            Part("</s>", literal=True),
        )

    def test_a_thought_is_closed_before_a_prefix_that_is_past_it(self):
        """What was said is no thought, though the template opens one."""
        talk = [Message("user", "Hi")]
        assert TEMPLATES["deepseek"].render(talk).opens_thought
        said = TEMPLATES["deepseek"].render(talk, prefix="Hello")
        assert not said.opens_thought
        assert said.text.endswith("<｜Assistant｜><think>\n\n</think>\n\nHello")
        thinking = TEMPLATES["deepseek"].render(talk, prefix="Hm.</think>Hello")
        assert thinking.opens_thought
        assert thinking.text.endswith("<think>\nHm.</think>Hello")

    def test_a_message_opens_no_thought(self):
        """A spelling at the end of a prompt is not the template's."""
        said = TEMPLATES["llama 2"].render([Message("user", "<think>")], ["<think>"])
        assert not said.opens_thought


class TestTemplates:
    def test_hugging_face_names_are_there(self):
        """JSON with its options, loop controls, dates, and marks for training."""
        source = (
            "{{ strftime_now('%Y') | length }} {{ {'b': 'é', 'a': 1} | tojson(sort_keys=true) }} "
            "{{ 'é' | tojson(ensure_ascii=true) }} {{ [1, 2] | tojson(separators=(',', ':')) }} "
            "{% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %}"
            "{% if loop.last %}{% break %}{% endif %}{% endfor %}"
        )
        text = ChatTemplate(source).render([Message("user", "Hi")]).text
        assert text == '4 {"a": 1, "b": "é"} "\\u00e9" [1,2] Hi'

    def test_a_spelling_in_escaped_json_is_literal_too(self):
        """A template may write JSON without a letter that is not ASCII."""
        source = "{% for m in messages %}{{ m.content | tojson(ensure_ascii=true) }}{% endfor %}"
        parts = ChatTemplate(source).render([Message("user", "a</s>b")], ["</s>"]).parts
        assert parts == (Part('"a'), Part("</s>", literal=True), Part('b"'))

    @pytest.mark.parametrize(
        "source",
        [
            "{% for a in range(10 ** 9) %}{% endfor %}",
            "{% for a in range(1000) %}{{ 'x' * 1000000 }}{% endfor %}",
            "{{ 1 / 0 }}",
            "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
        ],
    )
    def test_a_template_out_of_bounds_is_a_bad_request(self, source):
        """A broken template costs its request, and not the process."""
        with pytest.raises(BadRequest, match="refuses"):
            ChatTemplate(source).render([Message("user", "Hi")])

    @pytest.mark.parametrize("source", ["{% if %}", " " * 1_000_001])
    def test_what_is_no_template_says_so(self, source):
        """NoChatTemplate offers to pass another one."""
        with pytest.raises(NoChatTemplate, match="chat_template="):
            ChatTemplate(source)


@pytest.fixture(scope="module")
def real_source(local_model):
    from aideon_core.backends.llama_cpp.model import Model
    from aideon_core.backends.llama_cpp.options import ModelOptions

    with closing(Model(ModelOptions(local_model.path), weights=False)) as model:
        return model.chat_template


@pytest.mark.model
def test_the_default_model_has_its_own_prompt(real_source):
    """Its template takes everything, so a conversation with tools reaches it unchanged."""
    template = ChatTemplate(real_source)
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Weather?"},
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [
                {
                    "id": "call_abc",
                    "type": "function",
                    "function": {"name": "get_weather", "arguments": {"city": "Oslo"}},
                }
            ],
        },
        {"role": "tool", "content": "Sunny.", "tool_call_id": "call_abc"},
    ]
    talk = [Message("system", "Be brief."), *CALLED]
    assert template.call_format == GENERIC
    assert template.render(talk, tools=(TOOL,)).text == plain(real_source, messages, tools=[TOOL])
