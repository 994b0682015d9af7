"""The rules by which keys are lent, refused and paused, without a clock or a lock."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, nan

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from aideon_core.keys.key import Key
from aideon_core.keys.state import LONGEST_PAUSE, QUARANTINE, KeyState, RingState

KEYS = tuple(Key(f"key-{n}", "test") for n in range(4))
some_keys = st.sets(st.sampled_from(KEYS), min_size=1)
seconds = st.floats(min_value=0.01, max_value=200)


def lent(state: RingState, now: float = 0.0) -> tuple[Key, RingState]:
    key = state.choice(now)
    assert key is not None
    return key, state.leased(key, now)


@given(some_keys, st.integers(1, 5))
def test_keys_take_turns(keys, rounds):
    """Calls are spread evenly: every key is used once before any is used again."""
    state = RingState().given(keys)
    for _ in range(rounds):
        turn = set()
        for _ in keys:
            key, state = lent(state)
            turn.add(key)
        assert turn == keys


@given(some_keys)
def test_keys_that_are_all_refused_are_still_tried(keys):
    """A ring whose every key was refused is never locked out."""
    state = RingState().given(keys)
    for key in keys:
        state = state.refused(key, 0.0)
    assert {lent(state)[0]} <= keys
    assert not any(state.another(key, 0.0) for key in keys)


def test_a_refused_key_gets_one_probe_a_minute():
    """While another key works, a refused one is tried once a minute and no more."""
    bad, good, *_ = KEYS
    state = RingState().given([bad, good]).refused(bad, 0.0)
    probes = []
    for now in range(240):
        for _ in range(3):
            key, state = lent(state, float(now))
            if key == bad:
                probes.append(now)
    assert probes == [QUARANTINE, 2 * QUARANTINE, 3 * QUARANTINE]


def test_a_probe_that_is_answered_ends_the_quarantine():
    """A key that works again takes its turns again."""
    bad, good, *_ = KEYS
    state = RingState().given([bad, good]).refused(bad, 0.0)
    state = state.leased(bad, QUARANTINE).answered(bad)
    assert {lent(state, QUARANTINE)[0], lent(lent(state, QUARANTINE)[1], QUARANTINE)[0]} == {
        bad,
        good,
    }


def test_a_late_answer_does_not_vouch_for_a_refused_key():
    """A call sent before the key was revoked may answer after; the key stays in quarantine."""
    old, new, *_ = KEYS
    state = RingState().given([old, new]).leased(old, 0.0).refused(old, 1.0).answered(old)
    assert lent(state, 1.0)[0] == new
    assert lent(lent(state, 1.0)[1], 1.0)[0] == new


def test_a_new_key_is_used_first_and_a_dropped_one_never():
    """When the sources change, the next call goes out with the new key."""
    old, new, *_ = KEYS
    state = lent(RingState().given([old]))[1].given([old, new])
    assert lent(state)[0] == new
    assert lent(state.given([old]))[0] == old
    assert RingState().given([old]).given([]).choice(0.0) is None


def test_what_happens_to_a_dropped_key_is_no_matter():
    """Answers that come for a key that was replaced meanwhile change nothing."""
    old, new, *_ = KEYS
    state = RingState().given([new])
    assert state.refused(old, 0.0) == state.answered(old) == state.paused(old, 9.0, 0.0) == state


@pytest.mark.parametrize("wait", [0.0, -1.0, nan, -inf])
def test_a_pause_of_no_time_is_none(wait):
    """A server that says to wait 0 seconds, or nonsense, does not stop the key."""
    assert KeyState().paused(wait, 5.0).ready(5.0)


def test_no_pause_locks_a_key_out_for_good():
    """A pause without end is held for a day."""
    assert KeyState().paused(inf, 0.0).paused_until == LONGEST_PAUSE


@given(st.lists(seconds, min_size=1))
def test_the_longest_of_several_pauses_counts(pauses):
    """A shorter pause that is told later does not cut a longer one."""
    state = KeyState()
    for pause in pauses:
        state = state.paused(pause, 0.0)
    assert state.paused_until == max(pauses)


@dataclass
class Expected:
    """One key, as somebody would keep track of it by hand."""

    paused_until: float = -inf
    quarantined_at: float | None = None
    probed: bool = False

    def quarantined(self, now: float) -> bool:
        return self.quarantined_at is not None and now < self.quarantined_at + QUARANTINE


class Ring(RuleBasedStateMachine):
    """Any order of events keeps the promises that calls rely on."""

    def __init__(self):
        super().__init__()
        self.now = 1000.0
        self.expected: dict[Key, Expected] = {}
        self.order: list[Key] = []
        self.state = RingState()

    @initialize(keys=some_keys)
    def begin(self, keys):
        self.give(keys)

    @rule(keys=st.sets(st.sampled_from(KEYS)))
    def give(self, keys):
        self.state = self.state.given(sorted(keys, key=Key.reveal))
        new = [key for key in sorted(keys, key=Key.reveal) if key not in self.expected]
        self.order = new + [key for key in self.order if key in keys]
        self.expected = {key: self.expected.get(key, Expected()) for key in keys}

    @rule(seconds=seconds)
    def time_passes(self, seconds):
        self.now += seconds

    @rule(key=st.sampled_from(KEYS))
    def refused(self, key):
        self.state = self.state.refused(key, self.now)
        if key in self.expected:
            self.expected[key].quarantined_at = self.now
            self.expected[key].probed = False

    @rule(key=st.sampled_from(KEYS))
    def answered(self, key):
        self.state = self.state.answered(key)
        if key in self.expected and self.expected[key].probed:
            self.expected[key].quarantined_at = None
            self.expected[key].probed = False

    @rule(key=st.sampled_from(KEYS), seconds=seconds)
    def paused(self, key, seconds):
        self.state = self.state.paused(key, seconds, self.now)
        if key in self.expected:
            it = self.expected[key]
            it.paused_until = max(it.paused_until, self.now + seconds)

    @precondition(lambda self: self.expected)
    @rule()
    def leased(self):
        live = [key for key in self.order if not self.expected[key].quarantined(self.now)]
        usable = live or self.order
        ready = [key for key in usable if self.expected[key].paused_until <= self.now]
        key = self.state.choice(self.now)
        if not ready:
            assert key is None
            first = min(self.expected[key].paused_until for key in usable)
            assert self.state.wait(self.now) == first - self.now > 0
            return
        assert key == ready[0]
        for other in self.order:
            others = [k for k in live if k in ready and k != other]
            assert self.state.another(other, self.now) == bool(others)
        self.state = self.state.leased(key, self.now)
        self.order = [k for k in self.order if k != key] + [key]
        if self.expected[key].quarantined_at is not None:
            self.expected[key].quarantined_at = self.now
            self.expected[key].probed = True


Ring.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestRing = Ring.TestCase
