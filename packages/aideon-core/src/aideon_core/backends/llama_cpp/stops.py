"""Cut a growing text before a stop string, without showing a part of one."""

from __future__ import annotations


class StopFilter:
    """Passes text on, holding back what may be the beginning of a stop string.

    Args:
        stops: what ends the text.
        shown: what was shown before; its end may be the beginning of a stop string.
    """

    def __init__(self, stops: tuple[str, ...], shown: str = "") -> None:
        self._stops = tuple(stop for stop in stops if stop)
        self._shown = shown[len(shown) - self._begun(shown) :]
        self._held = ""
        self.stopped = False

    def feed(self, text: str) -> str:
        """What is now certain to be shown; sets ``stopped`` once a stop string is whole."""
        if not self._stops:
            return text
        known = len(self._shown)
        text = self._shown + self._held + text
        ends = [at for stop in self._stops if (at := text.find(stop)) >= 0]
        if ends:
            self.stopped, self._held = True, ""
            return text[known : min(ends)]
        begun = len(text) - self._begun(text)
        self._shown, self._held = text[begun:known], text[max(begun, known) :]
        return text[known:begun]

    def flush(self) -> str:
        """What was held back and turned out not to be a stop string."""
        held, self._held = self._held, ""
        return held

    def _begun(self, text: str) -> int:
        """The length of the longest end of ``text`` that begins a stop string."""
        return max((self._overlap(text, stop) for stop in self._stops), default=0)

    @staticmethod
    def _overlap(text: str, stop: str) -> int:
        """The length of the longest end of ``text`` that begins ``stop``."""
        longest = min(len(text), len(stop) - 1)
        return next((n for n in range(longest, 0, -1) if text.endswith(stop[:n])), 0)
