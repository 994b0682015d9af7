"""One answer as it is written: from logits to tokens, held to what was asked."""

from __future__ import annotations

from bisect import bisect_right
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from aideon_core.backends.llama_cpp.sampling import Sampler
from aideon_core.backends.llama_cpp.transcript import Transcript
from aideon_core.errors import BadRequest
from aideon_core.types import Chunk, FinishReason, TokenLogprob

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from aideon_core.backends.llama_cpp.asking import Asked
    from aideon_core.backends.llama_cpp.forms.grammar import Grammar
    from aideon_core.backends.llama_cpp.forms.vocabulary import Matcher
    from aideon_core.backends.llama_cpp.model import Model
    from aideon_core.backends.llama_cpp.sampling import Pick
    from aideon_core.types import ToolCall


class Answer:
    """Chooses the tokens of one answer and tells the caller what they say.

    Args:
        model: the model that answers.
        asked: what it was asked.
        limit: how many tokens it may write.
        seed: what its choices are drawn from; by chance if None.
        sink: takes its chunks.

    Attributes:
        written: how many tokens it has written, those taken back included.
        finish: why it ended, None while it goes on.
        taken_back: how many of its last tokens it has just taken back; the next one is to be
            chosen after the token before them.
        warnings: what the caller should know about it once it has ended.

    Raises:
        BadRequest: the prefix does not have the form that was asked for.
    """

    def __init__(
        self,
        model: Model,
        asked: Asked,
        *,
        limit: int,
        seed: int | None,
        sink: Callable[[Chunk], None],
    ) -> None:
        self._model, self._asked, self._limit, self._sink = model, asked, limit, sink
        self._sampler = Sampler(asked.request, model.n_vocab, seed=seed, prompt=asked.tokens)
        self._transcript = Transcript(asked)
        self._matcher: Matcher | None = None
        # How much was said after each token, to find the token that a character is of.
        self._spoken = [self._transcript.spoken]
        self.written = self.taken_back = 0
        self.finish: FinishReason | None = None
        self.warnings: tuple[str, ...] = ()
        self._hold()
        if self._matcher is not None and asked.grammar is not None:
            self._matcher.accept_text(asked.request.prefix or "")

    def take(self, logits: NDArray[np.float32]) -> list[int]:
        """Choose the next token; returns what has to be read before the one after it.

        That is more than one token where a grammar dictates what follows, and nothing when
        the answer is over.
        """
        self.taken_back = 0
        pick = self._sampler.pick(logits, self._matcher)
        tokens = [pick.token]
        # Without their logits nobody knows how likely dictated tokens were.
        if self._write(pick.token, pick) and self._matcher is not None and pick.logprob is None:
            for token in self._matcher.forced():
                tokens.append(token)
                if not self._write(token, None):
                    break
        return tokens if self.finish is None else []

    def _write(self, token: int, pick: Pick | None) -> bool:
        """Take a token into the answer; tells whether others may follow at once."""
        if token in self._model.end:
            self._end("stop")
            return False
        self.written += 1
        self._sampler.accept(token)
        if self._matcher is not None:
            self._matcher.accept(token)
        calls = self._transcript.calls
        known = len(calls.calls) if calls is not None else 0
        chunks = self._transcript.feed(self._model.piece(token))
        self._spoken.append(self._transcript.spoken)
        if calls is not None and self._matcher is None and self._is_wrong(calls.calls[known:]):
            self._take_back(calls.calls[-1].name, calls.started)
            return False
        self._show(chunks, self._told(pick))
        if self._transcript.is_over:
            self._end("stop")
        elif self._matcher is not None and self._matcher.must_end:
            self._let_go()
        else:
            self._hold()
        if self.finish is None and self.written >= self._limit:
            self._end("length")
        return self.finish is None

    def _hold(self) -> None:
        """Hold what comes next to a grammar, if it has to be from here on."""
        if self._matcher is not None or self._transcript.thinks:
            return
        if self._asked.grammar is not None:
            self._matcher = self._matching(self._asked.grammar)
            return
        calls = self._transcript.calls
        if calls is not None and (name := calls.arguments_begin) is not None:
            matcher = self._matching(self._asked.arguments(name, calls.closing))
            # A token may hold the beginning of arguments that the tool does not take; then
            # they are as free as the rest of the answer.
            with suppress(BadRequest):
                matcher.accept_text(calls.arguments_began_with)
                self._matcher = matcher

    def _let_go(self) -> None:
        """The grammar has come to its end."""
        if self._asked.grammar is not None:
            self._end("stop")
        else:
            self._matcher = None

    def _matching(self, grammar: Grammar) -> Matcher:
        return self._model.vocabulary.matcher(grammar)

    def _is_wrong(self, calls: Sequence[ToolCall]) -> bool:
        """Whether a call came that no grammar held, with arguments its tool does not take."""
        read = self._transcript.calls
        # With a stop string some text is held back, and nobody knows which token it is of.
        if read is None or len(calls) != 1 or self._asked.request.stop:
            return False
        return read.invalid(calls[0]) is not None

    def _take_back(self, name: str, started: int) -> None:
        """Write the call that began at a character once more, held to its tool's schema."""
        kept = max(1, bisect_right(self._spoken, started))
        self.taken_back = len(self._spoken) - kept
        del self._spoken[kept:]
        self._transcript.back_to(self._spoken[-1])
        self._matcher = self._matching(self._asked.call_of(name))

    def _show(self, chunks: list[Chunk], logprobs: tuple[TokenLogprob, ...] = ()) -> None:
        if logprobs:
            first, *rest = chunks or [Chunk()]
            chunks = [replace(first, logprobs=logprobs), *rest]
        for chunk in chunks:
            self._sink(chunk)

    def _told(self, pick: Pick | None) -> tuple[TokenLogprob, ...]:
        if pick is None or pick.logprob is None:
            return ()
        top = tuple((self._text(token), logprob) for token, logprob in pick.top)
        return (TokenLogprob(self._text(pick.token), pick.logprob, top),)

    def _text(self, token: int) -> str:
        return self._model.piece(token).decode("utf-8", "replace")

    def _end(self, finish: FinishReason) -> None:
        self._show(self._transcript.finish())
        calls = self._transcript.calls
        if finish == "stop":
            self.warnings = self._asked.faults(self._transcript.text, calls)
            if calls is not None and calls.calls:
                finish = "tool_calls"
        self.finish = finish
