"""Stop strings in a growing text."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from aideon_core.backends.llama_cpp.stops import StopFilter

LETTERS = st.text("ab\n", max_size=12)


@given(st.lists(LETTERS, max_size=8), st.lists(LETTERS, max_size=3))
def test_a_stream_is_cut_where_the_whole_text_would_be(pieces, stops):
    """However the text arrives, what is shown ends before the first stop string."""
    stop_filter = StopFilter(tuple(stops))
    shown = ""
    for piece in pieces:
        shown += stop_filter.feed(piece)
        if stop_filter.stopped:
            break
    else:
        shown += stop_filter.flush()
    text = "".join(pieces)
    ends = [at for stop in stops if stop and (at := text.find(stop)) >= 0]
    if not ends:
        assert shown == text
    elif len(ends) == 1:
        assert shown == text[: ends[0]]
    else:
        # The first stop string to be whole wins, and nothing of any of them is shown.
        assert text.startswith(shown)
        assert not any(stop and stop in shown for stop in stops)
    assert stop_filter.stopped == bool(ends)


def test_what_cannot_become_a_stop_string_is_shown_at_once():
    """Only a possible beginning of a stop string is held back."""
    stop_filter = StopFilter(("\nObservation:",))
    assert stop_filter.feed("Thought: hm") == "Thought: hm"
    assert stop_filter.feed("\nOb") == ""
    assert stop_filter.feed("vious") == "\nObvious"


@given(LETTERS, LETTERS, st.lists(LETTERS, min_size=1, max_size=3))
def test_a_stop_string_may_begin_in_what_was_shown_before(shown, text, stops):
    """A text that goes on from another ends where both together would, as far as it still can."""
    if any(stop and stop in shown for stop in stops):
        return
    stop_filter = StopFilter(tuple(stops), shown)
    more = "".join(stop_filter.feed(letter) for letter in text if not stop_filter.stopped)
    if not stop_filter.stopped:
        more += stop_filter.flush()
    ends = [at for stop in stops if stop and (at := (shown + text).find(stop)) >= 0]
    assert stop_filter.stopped == bool(ends)
    assert (shown + text).startswith(shown + more)
    if len(ends) == 1:
        assert shown + more == (shown + text)[: max(len(shown), ends[0])]
    elif not ends:
        assert more == text
