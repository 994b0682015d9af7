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
