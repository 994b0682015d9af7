"""Which sequence answers a prompt, and what of it is not read again."""

from __future__ import annotations

import pytest

pytest.importorskip("llama_cpp")

from hypothesis import given
from hypothesis import strategies as st

from aideon_core.backends.llama_cpp.slots import Slot, common, place, reusable

BATCH = 8
SYSTEM = list(range(100, 132))


def slot(number, tokens=(), *, prompt=None, canonical=None, used=0, busy=False):
    """A slot that has read these tokens, all of them a prompt's unless told otherwise."""
    prompt = len(tokens) if prompt is None else prompt
    whole = prompt // BATCH * BATCH
    return Slot(
        number,
        list(tokens),
        prompt,
        whole if canonical is None else canonical,
        answer=object() if busy else None,
        used=used,
    )


def test_a_conversation_goes_on_where_it_was():
    """The next turn of a conversation reads nothing of the turns before it again."""
    spoken = [*SYSTEM, 1, 2, 3]
    slots = [slot(0, [*SYSTEM, 9], used=2), slot(1, spoken, prompt=33, used=1)]
    found = place(slots, [*spoken, 4, 5], reproducible=True, batch=BATCH)
    assert (found.slot.number, found.donor.number, found.kept) == (1, 1, len(spoken))


def test_another_conversation_copies_the_beginning_they_share():
    """A second conversation with the same beginning leaves the first one its memory."""
    long = [*SYSTEM, *range(200, 300)]
    slots = [slot(0, long, used=1), slot(1)]
    beginning = long[:100]
    found = place(slots, [*beginning, 5, 6], reproducible=False, batch=BATCH)
    assert (found.slot.number, found.donor.number, found.kept) == (1, 0, 100)


def test_the_longest_unused_conversation_makes_room():
    """When every sequence holds a conversation, the one that was used least lately goes."""
    for length in (5, 200):
        turns = [[1] * length, [2] * length, [3] * length]
        slots = [slot(n, turns[n], used=used) for n, used in enumerate((3, 1, 2))]
        found = place(slots, [7, 8, 9], reproducible=True, batch=BATCH)
        assert (found.slot.number, found.kept) == (1, 0)


def test_who_shares_a_prompt_being_read_waits_for_it():
    """A long beginning that another request is reading right now is not read twice."""
    reading = slot(0, SYSTEM[:8], prompt=len(SYSTEM), busy=True)
    reading.ahead = SYSTEM[8:]
    assert place([reading, slot(1)], [*SYSTEM, 1], reproducible=False, batch=BATCH) is None
    found = place([reading, slot(1)], [5, 6, 7], reproducible=False, batch=BATCH)
    assert found.slot.number == 1


def test_without_a_free_sequence_it_waits():
    """A request waits while every sequence is in use."""
    assert place([slot(0, busy=True)], [1, 2], reproducible=False, batch=BATCH) is None


_tokens = st.lists(st.integers(0, 2), max_size=40)


@given(_tokens, _tokens, st.booleans())
def test_only_what_is_shared_is_kept(held, prompt, reproducible):
    """What is not read again is shared, is never the last token, and begins at a whole batch."""
    prompt = [*prompt, 1]
    kept = reusable(slot(0, held), prompt, reproducible, BATCH)
    assert kept <= len(prompt) - 1
    assert held[:kept] == prompt[:kept]
    if reproducible:
        assert kept % BATCH == 0


@given(st.lists(_tokens, min_size=1, max_size=4), _tokens, st.booleans())
def test_a_place_is_free_and_its_donor_has_what_is_kept(held, prompt, reproducible):
    """A prompt is only ever put on a free sequence, with what its donor has really read."""
    slots = [slot(n, each, used=n, busy=n % 2 == 1) for n, each in enumerate(held)]
    prompt = [*prompt, 1]
    found = place(slots, prompt, reproducible=reproducible, batch=BATCH)
    assert found is not None
    assert found.slot.answer is None
    assert found.donor.tokens[: found.kept] == prompt[: found.kept]


@given(_tokens, _tokens)
def test_common_is_the_longest_shared_beginning(one, other):
    """The shared beginning is shared, and what follows it differs."""
    n = common(one, other)
    assert one[:n] == other[:n]
    assert n in (len(one), len(other)) or one[n] != other[n]
