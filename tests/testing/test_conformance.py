"""The conformance suite: it passes what conforms, and fails what does not, by name."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import jsonschema_rs
import pytest

from aideon_core import Client, OpenAICompatibleBackend, cli
from aideon_core.errors import BadRequest, ServerError, TimedOut
from aideon_testing import FakeBackend, LoopbackTogether
from aideon_testing.conformance import (
    FEATURES,
    ConformanceTests,
    ObedientAnswers,
    Subject,
    differences,
    examine,
)
from aideon_testing.conformance import cli as command
from aideon_testing.conformance.bodies import Bodies
from aideon_testing.conformance.examples import example, matching
from aideon_testing.conformance.promises import bodies
from aideon_testing.conformance.reference import LOOPBACK_CONTEXT, loopback
from aideon_testing.conformance.samples import MANY, ORDER, PATTERN, SCHEMAS


class TestLoopbackTogether(ConformanceTests):
    """A perfect model behind Together's wire."""

    context_tokens = LOOPBACK_CONTEXT

    @pytest.fixture(scope="class")
    @classmethod
    def backend(cls):
        with loopback() as backend:
            yield backend


@pytest.fixture(scope="module")
def openai_server():
    with LoopbackTogether(ObedientAnswers(), models=["mine"]) as server:
        yield server


class TestOpenAICompatibleHost(ConformanceTests):
    """The same model behind a host that bills nothing, given as a client."""

    context_tokens = 32_768

    @pytest.fixture(scope="class")
    @classmethod
    def backend(cls, openai_server):
        url = openai_server.base_url
        backend = OpenAICompatibleBackend("mine", host="vllm", api_key="any", base_url=url)
        with Client(local=None, cloud=backend, policy="cloud-only") as client:
            yield client


class Spoilt:
    """A backend that does one thing wrong, whole and streamed, blocking and awaiting."""

    def __init__(self, inner, *, asked=None, said=None, pieces=None):
        self.name, self.side, self.model = inner.name, inner.side, inner.model
        self.abilities, self.facts = inner.abilities, inner.facts
        self._inner = inner
        self._asked = asked or (lambda request: request)
        self._said = said or (lambda completion: completion)
        self._pieces = pieces or (lambda chunks: chunks)

    def unavailable(self):
        return None

    def complete(self, request):
        return self._said(self._inner.complete(self._asked(request)))

    def stream(self, request):
        return self._cut(list(self._inner.stream(self._asked(request))))

    async def acomplete(self, request):
        return self._said(await self._inner.acomplete(self._asked(request)))

    async def astream(self, request):
        stream = await self._inner.astream(self._asked(request))
        chunks = [chunk async for chunk in stream]

        async def cut():
            for chunk in self._pieces(chunks):
                yield chunk

        return cut()

    def close(self):
        self._inner.close()

    async def aclose(self):
        await self._inner.aclose()

    def _cut(self, chunks):
        yield from self._pieces(chunks)


def each_chunk(change):
    return lambda chunks: [change(chunk) for chunk in chunks]


def no_usage(answer):
    return replace(answer, usage=None)


def one_id(answer):
    calls = (replace(call, id="call_1") for call in answer.tool_calls)
    return replace(answer, tool_calls=tuple(calls))


def one_id_streamed(chunk):
    deltas = (replace(each, id="call_1" if each.id else "") for each in chunk.tool_calls)
    return replace(chunk, tool_calls=tuple(deltas))


def broken_arguments(answer):
    calls = (replace(call, arguments=call.arguments + "}") for call in answer.tool_calls)
    return replace(answer, tool_calls=tuple(calls))


def wrong_arguments(answer):
    calls = (replace(call, arguments='{"surplus": 1}') for call in answer.tool_calls)
    return replace(answer, tool_calls=tuple(calls))


def doubled(chunks):
    at = next((i for i, chunk in enumerate(chunks) if chunk.text or chunk.tool_calls), 0)
    return [*chunks[:at], chunks[at], *chunks[at:]]


def no_system(request):
    turns = tuple(turn for turn in request.messages if turn.role != "system")
    return replace(request, messages=turns)


def cut_long(request):
    turns = tuple(replace(turn, content=turn.text[:200]) for turn in request.messages)
    return replace(request, messages=turns)


def control_tokens(request):
    mark = re.compile(r"<\|im_end\|>")
    turns = (replace(turn, content=mark.sub("", turn.text)) for turn in request.messages)
    return replace(request, messages=tuple(turns))


def crash_on_nothing(request):
    if not request.messages[-1].text.strip():
        raise ServerError("Nothing in, nothing out.")
    return request


def closed_in_silence(answer):
    return replace(answer, finish_reason="stop") if answer.finish_reason == "length" else answer


# What is done wrong, and the promises that it breaks: these and no others.
WRONG = {
    "drops usage": (
        {"said": no_usage, "pieces": each_chunk(no_usage)},
        {"usage", "usage_is_the_same_whole_and_streamed", "max_tokens_is_exact"},
    ),
    "drops usage in streams": (
        {"pieces": each_chunk(no_usage)},
        {
            "usage",
            "usage_is_the_same_whole_and_streamed",
            "streamed_and_whole_have_the_same_fields",
            "max_tokens_is_exact",
        },
    ),
    "ignores tool_choice": (
        {"asked": lambda request: replace(request, tool_choice="auto")},
        {"none", "named"},
    ),
    "ignores parallel_tool_calls": (
        {"asked": lambda request: replace(request, parallel_tool_calls=None)},
        {"auto", "required"},
    ),
    "shows stop strings": (
        {"asked": lambda request: replace(request, stop=())},
        {"stop_strings_are_never_shown"},
    ),
    "repeats ids": (
        {"said": one_id, "pieces": each_chunk(one_id_streamed)},
        {
            "auto",
            "required",
            "results_are_told_back",
            "many_tools",
            "calls_of_async_clients",
            "a_required_call_comes_before_the_form",
            "tools_and_a_form_together",
        },
    ),
    "breaks arguments": (
        {"said": broken_arguments},
        {
            "auto",
            "required",
            "named",
            "arguments_fit",
            "many_tools",
            "a_tool_with_unicode",
            "results_are_told_back",
            "calls_of_async_clients",
            "a_required_call_comes_before_the_form",
            "tools_and_a_form_together",
        },
    ),
    "invents arguments": (
        {"said": wrong_arguments},
        {
            "auto",
            "required",
            "named",
            "arguments_fit",
            "many_tools",
            "results_are_told_back",
            "calls_of_async_clients",
            "a_required_call_comes_before_the_form",
            "tools_and_a_form_together",
        },
    ),
    "doubles a chunk": (
        {"pieces": doubled},
        {
            "streamed_and_whole_say_the_same",
            "calls_are_streamed_in_deltas",
            "stop_strings_are_never_shown",
            "json_schema",
            "json_object",
            "regex",
            "output_type",
            "output_type_of_async_clients",
            "partial_values",
            "tools_and_a_form_together",
        },
    ),
    "ignores max_tokens": (
        {"asked": lambda request: replace(request, max_tokens=None)},
        {"max_tokens_is_exact", "one_token", "a_limit_does_not_pass_for_an_answer"},
    ),
    "passes a limit for an answer": (
        {"said": closed_in_silence},
        {
            "max_tokens_is_exact",
            "one_token",
            "a_limit_does_not_pass_for_an_answer",
        },
    ),
    "ignores the form": (
        {"asked": lambda request: replace(request, response_format=None, output=None)},
        {
            "json_schema",
            "json_object",
            "regex",
            "output_type",
            "output_type_of_async_clients",
            "partial_values",
            "tools_and_a_form_together",
        },
    ),
    "drops system messages": ({"asked": no_system}, {"system_message"}),
    "cuts long input": ({"asked": cut_long}, {"long_input", "too_long_a_prompt"}),
    "lets messages end turns": ({"asked": control_tokens}, {"control_tokens_are_text"}),
    "crashes on nothing": ({"asked": crash_on_nothing}, {"empty_input"}),
    "forgets its name in streams": (
        {"pieces": each_chunk(lambda chunk: replace(chunk, id=None))},
        {"streamed_and_whole_have_the_same_fields"},
    ),
    "cuts characters": (
        {
            "pieces": each_chunk(
                lambda chunk: replace(chunk, text=chunk.text.replace("漢", "\ufffd"))
            )
        },
        {"unicode"},
    ),
}


@pytest.fixture(scope="module")
def sound():
    with loopback() as backend:
        yield backend


@pytest.mark.parametrize("wrong", WRONG)
def test_a_broken_backend_fails_what_it_breaks(sound, wrong):
    """A backend that does one thing wrong fails the promises about it, and no others."""
    faults, broken = WRONG[wrong]
    with Subject(Spoilt(sound, **faults), context_tokens=LOOPBACK_CONTEXT) as subject:
        report = examine(subject)
    assert {each.name.partition("[")[0] for each in report.failed} == broken


def test_a_backend_that_goes_on_after_a_close_is_found(sound):
    """A stream that works on when nobody listens keeps the next request waiting."""

    class Busy(Spoilt):
        busy = False

        def complete(self, request):
            if self.busy:
                raise TimedOut("Still at work for somebody who left.")
            return super().complete(request)

        def _cut(self, chunks):
            self.busy = True
            yield from chunks
            self.busy = False

    with Subject(Busy(sound)) as subject:
        report = examine(subject, only="a_stream_closed_early")
    assert [each.message for each in report.failed] == [
        "TimedOut: Still at work for somebody who left."
    ]


def test_an_awaiting_twin_that_is_none_is_found(sound):
    """An answer that lacks a field only for awaiting callers fails the promise of twins."""

    class Lopsided(Spoilt):
        async def acomplete(self, request):
            return replace(await super().acomplete(request), id=None)

    with Subject(Lopsided(sound)) as subject:
        report = examine(subject, only="streaming")
    assert [each.name for each in report.failed] == ["sync_and_async_are_twins[whole]"]


def test_a_backend_that_mixes_up_its_callers_is_found(sound):
    """An answer to somebody else's prompt is told from the tokens that were read for it."""
    first = []

    def somebody_elses(request):
        if request.max_tokens == 8:
            first.append(request)
            return first[0]
        return request

    with Subject(Spoilt(sound, asked=somebody_elses)) as subject:
        report = examine(subject, only="eight_threads")
    assert len(report.failed) == 2


def test_a_crash_is_a_failure_and_not_the_end(sound):
    """An exception from outside the tree fails its body, and the others are run all the same."""

    def crash(request):
        raise ZeroDivisionError("somewhere inside")

    with Subject(Spoilt(sound, asked=crash)) as subject:
        report = examine(subject, only="text")
    assert len(report.failed) > 10
    assert "ZeroDivisionError: somewhere inside" in report.failed[0].message


async def test_it_runs_where_a_loop_is_running(sound):
    """In a notebook or an async test, the awaiting bodies run as they do elsewhere."""
    with Subject(sound) as subject:
        report = examine(subject, only="twins")
    assert [each.outcome for each in report.results] == ["passed", "passed"]


def test_a_body_that_is_overridden_keeps_its_cases(sound):
    """A subclass may override a body, to mark it or to add to it, and call it as it was."""

    class Mine(ConformanceTests):
        def test_plain_text(self, subject, how):
            """Mine."""
            super().test_plain_text(subject, how)

    given = []

    class Metafunc:
        cls, function = Mine, Mine.test_plain_text

        def parametrize(self, name, values):
            given.append((name, tuple(values)))

    Mine().pytest_generate_tests(Metafunc())
    assert given == [("how", ("whole", "streamed"))]
    with Subject(sound) as subject:
        Mine().test_plain_text(subject, "streamed")
        assert "plain_text[streamed] #1" in subject.shapes
        mine = [body.name for body in bodies(Mine(), "plain_text")]
    assert mine == ["plain_text[whole]", "plain_text[streamed]"]


@pytest.mark.parametrize("how", ["abilities", "lacks"])
def test_an_absent_feature_has_to_be_refused(sound, how):
    """What a backend lacks is refused with Unsupported, and that keeps the promise."""
    if how == "abilities":
        backend, lacks = FakeBackend("plain", side="cloud", abilities=frozenset()), ()
    else:
        backend, lacks = Spoilt(sound), ("logprobs",)
        backend.abilities = sound.abilities - {"logprobs"}
    with Subject(backend, lacks=lacks) as subject:
        report = examine(subject, only="logprobs")
    assert {each.outcome for each in report.results} == {"refused"}
    assert len(subject.refused) == len(report.results) > 1


def test_an_absent_feature_that_is_ignored_is_a_failure(sound):
    """A feature declared absent and answered all the same was ignored in silence."""
    with Subject(sound, lacks=["logprobs"]) as subject:
        report = examine(subject, only="logprobs")
    assert len(report.failed) == len(report.results)
    assert "logprobs is declared absent, so Unsupported was due" in report.failed[0].message
    assert "as if nothing had been asked for" in report.failed[0].message


def test_an_absent_feature_is_refused_by_one_error(sound):
    """Another error than Unsupported does not tell a router to look elsewhere."""

    def refused(request):
        raise BadRequest("No such thing here.")

    with Subject(Spoilt(sound, asked=refused), lacks=["logprobs"]) as subject:
        report = examine(subject, only="logprobs")
    assert "BadRequest came: No such thing here." in report.failed[0].message


def test_what_cannot_be_proved_is_skipped(sound):
    """Without a known context nothing overruns it, and what never repeats is not compared."""
    with Subject(sound, repeats=False) as subject:
        report = examine(subject)
    skipped = {each.name.partition("[")[0] for each in report.results if each.outcome == "skipped"}
    assert skipped == {"too_long_a_prompt", "a_seed_repeats", "streamed_and_whole_say_the_same"}
    assert all(each.message for each in report.results if each.outcome == "skipped")


def test_every_body_is_a_promise():
    """Every body says in one sentence what it promises, and no two have one name."""
    found = list(bodies(Bodies()))
    assert len(found) > 100
    assert all(body.sentence.endswith(".") for body in found)
    assert len({body.name for body in found}) == len(found)
    assert {body.area for body in found} == {
        "text",
        "streaming",
        "sampling",
        "tools",
        "output",
        "serving",
        "errors",
    }


def test_a_class_can_declare_every_feature():
    """There is a supports_... for each feature, None until somebody knows."""
    for feature in FEATURES:
        assert getattr(ConformanceTests, f"supports_{feature}") is None


def test_shapes_of_two_backends_are_compared(sound):
    """A field that one backend sets and another does not is told with the body it showed in."""
    reports = []
    for fault in ({}, {"said": lambda answer: replace(answer, id=None)}):
        with Subject(Spoilt(sound, **fault)) as subject:
            reports.append(examine(subject, only="plain_text"))
    mine, theirs = (report.shapes for report in reports)
    assert differences(mine, mine) == []
    assert differences(mine, theirs) == ["plain_text[whole] #1: id is str here and nothing there"]


def test_the_order_of_a_stream_is_part_of_its_shape(sound):
    """Two streams whose calls open differently have different shapes."""

    def reopened(chunk):
        deltas = (replace(each, name=each.name or "again") for each in chunk.tool_calls)
        return replace(chunk, tool_calls=tuple(deltas))

    reports = []
    for fault in ({}, {"pieces": each_chunk(reopened)}):
        with Subject(Spoilt(sound, **fault)) as subject:
            reports.append(examine(subject, only="calls_are_streamed"))
    (told,) = differences(*(report.shapes for report in reports))
    assert "repeats nothing" in told
    assert "repeats name" in told


def test_where_a_model_is_free_there_is_nothing_to_compare():
    """One model calls a tool and the other does not: that is no difference of shape."""
    mine = {"auto #1": {"kind": "text", "id": "str"}}
    theirs = {"auto #1": {"kind": "calls", "id": "nothing"}, "n #1": {"kind": "text"}}
    assert differences(mine, theirs) == []


@pytest.mark.parametrize(
    "schema", [*SCHEMAS.values(), *(t["function"]["parameters"] for t in MANY)]
)
def test_a_perfect_model_keeps_to_any_schema(schema):
    """The examples that the perfect model answers with are valid."""
    assert jsonschema_rs.validator_for(schema).is_valid(example(schema))
    assert jsonschema_rs.validator_for(ORDER["function"]["parameters"]).is_valid(
        example(ORDER["function"]["parameters"])
    )


@pytest.mark.parametrize("pattern", [PATTERN, r"\d{3}-\w+", "[abc]?x*y", r"\.\["])
def test_a_perfect_model_matches_a_regex(pattern):
    """The texts that the perfect model answers with match as a whole."""
    assert re.fullmatch(pattern, matching(pattern))


def test_a_regex_beyond_the_perfect_model_is_an_error():
    """A regex with groups is refused, not answered wrongly."""
    with pytest.raises(ValueError, match="has more in it"):
        matching("(a|b)c")


def test_a_perfect_model_needs_no_network(capsys, monkeypatch):
    """With AIDEON_OFFLINE the loopback is examined all the same: it is on this machine."""
    monkeypatch.setenv("AIDEON_OFFLINE", "1")
    assert cli.main(["conformance", "loopback", "--only", "plain_text"]) == 0


def test_the_command_prints_a_table(capsys):
    """`aideon conformance` tells each body as it ends, and how many promises are kept."""
    assert cli.main(["conformance", "loopback", "--only", "streaming"]) == 0
    said = capsys.readouterr()
    assert re.search(r"^streaming +8 +0 +0 +0$", said.out, re.MULTILINE)
    assert "passed   streaming usage[whole]" in said.err


def test_the_command_compares_shapes(capsys, openai_server, monkeypatch):
    """--against holds the shapes of two models to each other; equal ones exit with 0."""
    monkeypatch.setenv("GROQ_API_KEY", "any")
    given = ["conformance", "groq:mine", "--base-url", openai_server.base_url]
    assert cli.main([*given, "--only", "tools", "--against", "loopback", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["differences"] == []
    mine, theirs = (each["results"] for each in told["reports"])
    assert len(mine) == len(theirs) > 30
    assert {each["outcome"] for each in mine} == {"passed"}


def test_the_command_fails_with_a_model_that_does(capsys, monkeypatch):
    """A promise that is broken is told in full, and the exit code is 1."""
    monkeypatch.setenv("GROQ_API_KEY", "any")
    with LoopbackTogether(models=["mine"]) as server:
        given = ["conformance", "--cloud", "groq:mine", "--base-url", server.base_url]
        assert cli.main([*given, "--only", "required", "--json"]) == 1
        assert cli.main([*given, "--only", "required[whole-parallel]"]) == 1
    said = capsys.readouterr().out
    assert 'With "required", at least one call comes.' in said
    assert "No call came" in said


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--without", "tols"], "There is no feature 'tols'."),
        (["--only", "nothing-of-the-kind"], "No body of the suite has"),
        (["--local", "a.gguf"], "Several models are named."),
    ],
)
def test_a_wrong_call_is_told(words, told, capsys):
    """A slip in the command is an error that says what there is."""
    assert cli.main(["conformance", "loopback", *words]) == 1
    assert told in capsys.readouterr().err


def test_without_the_suite_the_command_names_it(capsys, monkeypatch):
    """aideon-core alone tells which package the suite is in, with exit code 2."""
    find = cli.importlib.util.find_spec
    monkeypatch.setattr(
        cli.importlib.util,
        "find_spec",
        lambda name: None if name == "aideon_testing" else find(name),
    )
    assert cli.main(["conformance", "loopback"]) == 2
    assert "pip install aideon-testing" in capsys.readouterr().err


def test_what_is_examined_when_nothing_is_named(monkeypatch, tmp_path):
    """The configured local model is examined, or else the configured cloud model."""
    options = cli._parser().parse_args(["conformance"])
    (tmp_path / "aideon.toml").write_text('local = "mine.gguf"\ncloud = "a/b"\n')
    monkeypatch.setenv("AIDEON_CONFIG", str(tmp_path / "aideon.toml"))
    assert command._spec(options) == "local:mine.gguf"
    options.base_url = "http://127.0.0.1:1"
    assert command._spec(options) == "a/b"
