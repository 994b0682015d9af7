"""Policies, tested as conversations: no backend, no clock, no network."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aideon_core.errors import (
    AideonError,
    AllBackendsFailed,
    AuthError,
    BadRequest,
    ConfigError,
    ConnectFailed,
    ContextTooLong,
    CoolingDown,
    MissingKey,
    RateLimited,
    StreamInterrupted,
    TimedOut,
)
from aideon_core.policy import POLICIES, Call, Close, Emit, Failed, Ok, Open, Pull, Sleep, named
from aideon_core.routing import Candidate
from aideon_core.types import Chunk, Completion, Message, Request, TokenLogprob, Usage

ASK = Request((Message("user", "Hello?"),))
LOCAL = Candidate("local", "local", "small", frozenset())
CLOUD = Candidate("together", "cloud", "large", frozenset({"tools", "json", "media"}))
ANSWER = Completion(text="Hi.", finish_reason="stop", usage=Usage(3, 2), model="large")


def start(policy, *, stream=False, candidates=(LOCAL, CLOUD), request=ASK, max_retries=0):
    rule = replace(POLICIES[policy], max_retries=max_retries)
    plan = rule.plan(request, candidates, stream=stream)
    return plan, next(plan)


def end(plan, outcome):
    with pytest.raises(StopIteration) as done:
        plan.send(outcome)
    return done.value.value


def test_the_preferred_side_is_asked_first_and_its_answer_returned():
    """Under local-first a local answer is the answer, and the cloud is never asked."""
    plan, step = start("local-first")
    assert step == Call("local", ASK)
    completion = end(plan, Ok(ANSWER, 0.25))
    assert completion.text == "Hi."
    assert completion.route.side == "local"
    assert completion.route.model == "small"
    assert [attempt.seconds for attempt in completion.route.attempts] == [0.25]


@pytest.mark.parametrize(
    ("policy", "order"),
    [("local-first", ["local", "together"]), ("cloud-first", ["together", "local"])],
)
def test_a_failure_falls_back_in_both_directions(policy, order):
    """When the preferred side fails, the other answers, and the route tells why."""
    plan, step = start(policy)
    assert step.backend == order[0]
    step = plan.send(Failed(ConnectFailed("host could not be reached."), 5.0))
    assert step.backend == order[1]
    route = end(plan, Ok(ANSWER, 1.0)).route
    assert route.backend == order[1]
    assert route.reason == f"fell back to {order[1]}: {order[0]} failed (ConnectFailed)"
    assert "host could not be reached." in route.explain()


@pytest.mark.parametrize(("policy", "only"), [("local-only", "local"), ("cloud-only", "together")])
def test_an_only_policy_never_asks_the_other_side(policy, only):
    """A failure under an only-policy is raised as itself, and the other side is not asked."""
    plan, step = start(policy)
    assert step.backend == only
    failure = RateLimited("slow down")
    with pytest.raises(RateLimited) as raised:
        plan.send(Failed(failure))
    assert raised.value is failure
    other = {"local": "together", "together": "local"}[only]
    considered = {seen.backend: seen.ruled_out for seen in raised.value.route.considered}
    assert considered[only] is None
    assert policy in considered[other].message


def test_the_last_side_left_is_asked_again_after_the_wait_it_asks_for():
    """A rate limit with nobody else to ask is waited out; the route shows every attempt."""
    plan, _ = start("cloud-only", max_retries=2)
    wait = plan.send(Failed(RateLimited("slow", retry_after=3.0)))
    assert wait.seconds == 3.0
    assert plan.send(Ok(None)) == Call("together", ASK)
    assert plan.send(Failed(ConnectFailed("cut"))) == Sleep(0.0, spread=1.0)
    assert plan.send(Ok(None)) == Call("together", ASK)
    route = end(plan, Ok(ANSWER)).route
    assert len(route.attempts) == 3
    assert route.reason == (
        "together answered when asked again: "
        "together failed (ConnectFailed), local was ruled out (Excluded)"
    )


def test_nobody_waits_while_another_side_is_left():
    """A rate limit moves on to the other side at once, and only that one is retried."""
    plan, _ = start("cloud-first", max_retries=1)
    assert plan.send(Failed(RateLimited("slow", retry_after=3.0))) == Call("local", ASK)
    assert plan.send(Failed(ConnectFailed("odd"))) == Sleep(0.0, spread=0.5)


def test_one_deadline_bounds_attempts_fallback_and_waits():
    """Each attempt is given what the deadline leaves, and no wait goes past it."""
    request = replace(ASK, deadline=10.0)
    plan, step = start("cloud-first", request=request, max_retries=2)
    assert step.request.deadline == 10.0
    step = plan.send(Failed(ConnectFailed("cut"), 4.0))
    assert step == Call("local", replace(ASK, deadline=6.0))
    wait = plan.send(Failed(RateLimited("slow", retry_after=1.0), 2.0))
    assert wait.seconds == 1.0
    assert plan.send(Ok(None, 1.25)) == Call("local", replace(ASK, deadline=2.75))
    with pytest.raises(AllBackendsFailed):
        plan.send(Failed(RateLimited("slow", retry_after=2.5), 0.5))


def test_a_deadline_that_is_over_asks_nobody_else():
    """A backend that used the time up is the last one asked, eligible others or not."""
    plan, _ = start("cloud-first", request=replace(ASK, deadline=10.0))
    with pytest.raises(TimedOut):
        plan.send(Failed(TimedOut("too late"), 10.0))


def test_waiting_for_a_key_costs_no_retry():
    """Requests held back because every key waits out a limit keep all their retries."""
    plan, _ = start("cloud-only", max_retries=1)
    for _ in range(3):
        wait = plan.send(Failed(CoolingDown("not yet", retry_after=2.0)))
        assert wait.seconds == 2.0
        assert plan.send(Ok(None)) == Call("together", ASK)
    assert isinstance(plan.send(Failed(ConnectFailed("cut"))), Sleep)


def test_a_key_that_is_free_in_no_time_is_waited_for():
    """A rest of a quarter of a second is no reason to go elsewhere; a longer one is."""
    plan, _ = start("cloud-first")
    assert isinstance(plan.send(Failed(CoolingDown("not yet", retry_after=0.2))), Sleep)
    assert plan.send(Ok(None)) == Call("together", ASK)
    assert plan.send(Failed(CoolingDown("not yet", retry_after=0.3))) == Call("local", ASK)


def test_a_wait_that_fails_in_a_stream_is_time_spent():
    """What a stream waited for in vain counts against the deadline, so it is not spent twice."""
    request = replace(ASK, deadline=10.0)
    plan, _ = start("cloud-only", request=request, stream=True, max_retries=5)
    plan.send(Ok("handle", 0.5))
    assert plan.send(Failed(TimedOut("late"), 9.5)) == Close("handle")
    with pytest.raises(TimedOut):
        plan.send(Ok(None))


def test_waits_without_a_deadline_come_to_an_end():
    """A key that never comes back is given up after a minute of waiting."""
    plan, _ = start("cloud-only")
    for _ in range(6):
        plan.send(Failed(CoolingDown("not yet", retry_after=10.0)))
        plan.send(Ok(None))
    with pytest.raises(CoolingDown):
        plan.send(Failed(CoolingDown("not yet", retry_after=10.0)))


@pytest.mark.parametrize(
    "error", [AuthError("wrong key"), RateLimited("tomorrow", retry_after=3600.0)]
)
def test_what_would_not_help_is_not_tried_again(error):
    """A refused key, or a wait of an hour, is raised at once, retries or not."""
    plan, _ = start("cloud-only", max_retries=5)
    with pytest.raises(type(error)):
        plan.send(Failed(error))


def test_a_group_has_one_cause_for_each_backend():
    """Retries do not repeat their cause in AllBackendsFailed."""
    plan, _ = start("local-first", max_retries=1)
    plan.send(Failed(ContextTooLong("too long")))
    plan.send(Failed(RateLimited("first")))
    plan.send(Ok(None))
    with pytest.raises(AllBackendsFailed) as raised:
        plan.send(Failed(RateLimited("second")))
    assert [error.message for error in raised.value.exceptions] == ["too long", "second"]


def test_a_request_that_is_wrong_is_not_sent_elsewhere():
    """A BadRequest ends the plan: another backend would only hide the mistake."""
    plan, _ = start("cloud-first")
    with pytest.raises(BadRequest):
        plan.send(Failed(BadRequest("no such parameter")))


def test_a_prompt_too_long_for_one_model_goes_to_the_other():
    """ContextTooLong falls back, because the other model may have a larger context."""
    plan, _ = start("local-first")
    assert plan.send(Failed(ContextTooLong("too long"))) == Call("together", ASK)


def test_when_all_fail_the_error_has_every_cause_and_the_route():
    """AllBackendsFailed carries one cause for each backend, in its group and in its text."""
    plan, _ = start("local-first")
    plan.send(Failed(ContextTooLong("too long for the small one")))
    with pytest.raises(AllBackendsFailed) as raised:
        plan.send(Failed(AuthError("wrong key")))
    error = raised.value
    assert [type(cause) for cause in error.exceptions] == [ContextTooLong, AuthError]
    assert "too long for the small one" in str(error)
    assert "wrong key" in str(error)
    assert [attempt.backend for attempt in error.route.attempts] == ["local", "together"]


def test_a_backend_that_cannot_be_asked_is_skipped_with_its_reason():
    """A missing key rules the cloud out before anything is sent, and explain() says so."""
    keyless = Candidate("together", "cloud", "large", CLOUD.abilities, MissingKey("no key"))
    plan, step = start("cloud-first", candidates=(LOCAL, keyless))
    assert step == Call("local", ASK)
    route = end(plan, Ok(ANSWER)).route
    assert route.reason == "local is the one eligible: together was ruled out (MissingKey)"
    assert "ruled out. no key" in route.explain()


def test_a_side_that_was_not_needed_is_no_reason():
    """With the preferred side answering, the reason does not dwell on the other's missing key."""
    keyless = Candidate("together", "cloud", "large", CLOUD.abilities, MissingKey("no key"))
    plan, _ = start("local-first", candidates=(LOCAL, keyless))
    assert end(plan, Ok(ANSWER)).route.reason == "local comes first and answered"


def test_a_lone_cause_is_raised_as_itself():
    """Under cloud-only without a key the error is MissingKey, not a group of one."""
    keyless = Candidate("together", "cloud", "large", CLOUD.abilities, MissingKey("no key"))
    plan = POLICIES["cloud-only"].plan(ASK, (LOCAL, keyless), stream=False)
    with pytest.raises(MissingKey):
        next(plan)


def test_a_request_goes_to_a_backend_that_can_do_what_it_needs():
    """A request with tools skips a backend without tools, whatever the preference."""
    tool = {"type": "function", "function": {"name": "now", "parameters": {}}}
    request = Request(ASK.messages, tools=(tool,))
    plan, step = start("local-first", request=request)
    assert step.backend == "together"
    assert "cannot call tools here" in end(plan, Ok(ANSWER)).route.explain()


def test_a_stream_is_opened_pulled_emitted_and_closed():
    """A streamed answer is emitted piece by piece, and the last piece has the facts."""
    plan, step = start("local-first", stream=True)
    assert step == Open("local", ASK)
    assert plan.send(Ok("handle", 0.5)) == Pull("handle")
    assert plan.send(Ok(Chunk(text="Hi"), 0.25)) == Emit(Chunk(text="Hi"))
    assert plan.send(Ok(None)) == Pull("handle")
    last = Chunk(finish_reason="stop", usage=Usage(3, 1), model="small")
    assert plan.send(Ok(last, 0.25)) == Pull("handle")
    assert plan.send(Ok(None)) == Close("handle")
    step = plan.send(Ok(None))
    assert step.chunk.usage == Usage(3, 1)
    assert step.chunk.route.attempts[0].first_token_seconds == 0.75
    assert step.chunk.route.attempts[0].seconds == 1.0
    completion = end(plan, Ok(None))
    assert completion == Completion.from_chunks([Chunk(text="Hi"), step.chunk])


def test_a_piece_that_tells_only_a_probability_is_emitted():
    """A token that completes no character still tells how likely it was."""
    plan, _ = start("local-first", stream=True)
    plan.send(Ok("handle"))
    piece = Chunk(logprobs=(TokenLogprob("\ufffd", -0.5),))
    assert plan.send(Ok(piece)) == Emit(piece)


@pytest.mark.parametrize("at", ["open", "first pull"])
def test_a_stream_falls_back_while_nothing_of_it_was_delivered(at):
    """A stream that breaks before its first piece is started anew on the other side."""
    plan, _ = start("cloud-first", stream=True)
    broken = Failed(ConnectFailed("cut"))
    if at == "open":
        step = plan.send(broken)
    else:
        plan.send(Ok("handle"))
        assert plan.send(broken) == Close("handle")
        step = plan.send(Ok(None))
    assert step == Open("local", ASK)


def test_a_stream_that_breaks_later_gives_back_what_was_delivered():
    """After the first piece a break is StreamInterrupted, with the partial answer and cause."""
    plan, _ = start("cloud-first", stream=True)
    plan.send(Ok("handle"))
    plan.send(Ok(Chunk(text="Once upon")))
    plan.send(Ok(None))
    cause = ConnectFailed("cut")
    assert plan.send(Failed(cause)) == Close("handle")
    with pytest.raises(StreamInterrupted) as raised:
        plan.send(Ok(None))
    assert raised.value.partial.text == "Once upon"
    assert raised.value.__cause__ is cause
    assert raised.value.route.attempts[0].error is cause


def test_a_connection_lost_after_the_finish_loses_nothing():
    """Once the finish reason came, a break is no error: the answer is whole."""
    plan, _ = start("cloud-first", stream=True)
    plan.send(Ok("handle"))
    plan.send(Ok(Chunk(text="Done.")))
    plan.send(Ok(None))
    plan.send(Ok(Chunk(finish_reason="stop")))
    assert plan.send(Failed(ConnectFailed("reset"))) == Close("handle")
    assert plan.send(Ok(None)).chunk.finish_reason == "stop"
    assert end(plan, Ok(None)).text == "Done."


def test_an_unknown_policy_names_the_nearest():
    """A typo in the policy is an error that offers the right name."""
    with pytest.raises(ConfigError, match="Did you mean 'local-first'"):
        named("local-frist")


ERRORS = st.sampled_from([ConnectFailed, RateLimited, AuthError, ContextTooLong, BadRequest])


@given(
    policy=st.sampled_from(sorted(POLICIES)),
    stream=st.booleans(),
    unavailable=st.tuples(st.booleans(), st.booleans()),
    data=st.data(),
)
def test_whatever_happens_a_plan_ends_and_asks_only_who_may_be_asked(
    policy, stream, unavailable, data
):
    """Any run of outcomes ends within the attempts allowed, and closes what it opened."""
    candidates = [
        Candidate(c.name, c.side, c.model, c.abilities, MissingKey("no") if out else None)
        for c, out in zip((LOCAL, CLOUD), unavailable, strict=True)
    ]
    allowed = {c.name for c in candidates if not c.unavailable} & {
        {"local": "local", "cloud": "together"}[side] for side in POLICIES[policy].sides
    }
    plan = replace(POLICIES[policy], max_retries=2).plan(ASK, candidates, stream=stream)
    asked, opened, emitted = [], [], []
    outcome, pulls = None, 0
    try:
        for _ in range(200):
            step = plan.send(outcome)
            match step:
                case Call():
                    asked.append(step.backend)
                    good = Ok(ANSWER)
                case Open():
                    asked.append(step.backend)
                    good = Ok(f"handle {len(asked)}")
                    opened.append(good.value)
                case Pull():
                    pulls += 1
                    piece = st.sampled_from([Chunk(text="a"), Chunk(), None])
                    good = Ok(data.draw(piece) if pulls < 10 else None)
                case Close():
                    opened.remove(step.stream)
                    outcome = Ok(None)
                    continue
                case Sleep():
                    outcome = Ok(None)
                    continue
                case Emit():
                    emitted.append(step.chunk)
                    outcome = Ok(None)
                    continue
            fails = data.draw(st.booleans())
            outcome = Failed(data.draw(ERRORS)("it failed")) if fails else good
            if fails and isinstance(step, Open):
                opened.pop()
        pytest.fail("the plan did not end")
    except StopIteration as done:
        assert done.value.route.backend in allowed
        if stream:
            assert Completion.from_chunks(emitted) == done.value
    except AideonError as error:
        assert error.route is not None
    assert set(asked) <= allowed
    assert len(asked) <= len(set(asked)) + 2
    assert not opened
