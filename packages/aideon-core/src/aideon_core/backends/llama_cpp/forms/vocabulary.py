"""What a model may write next: its vocabulary held against a grammar, token by token."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Final

import numpy as np
from llguidance import LLMatcher, LLTokenizer

from aideon_core.errors import BadRequest, ServerError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from numpy.typing import NDArray

    from aideon_core.backends.llama_cpp.forms.grammar import Grammar

_SPECIAL = b"\xff"
"""What llguidance knows a token by that text can never spell."""
_KEPT: Final = 64
_SHOWN: Final = 40


class Vocabulary:
    """The tokens of one model. Made once for a model, which takes some tenths of a second.

    Args:
        pieces: the bytes of every token, those of control tokens included.
        control: the tokens that a grammar never allows, whatever their bytes are.
        end: the tokens that end an answer, at least one.
        tokenize: gives the tokens of UTF-8 bytes in which nothing is a control token.
    """

    def __init__(
        self,
        pieces: Sequence[bytes],
        *,
        control: Collection[int],
        end: Sequence[int],
        tokenize: Callable[[bytes], list[int]],
    ) -> None:
        self.pieces = pieces
        self.end = frozenset(end)
        self.control = frozenset(control) | self.end
        self.tokenize = tokenize
        texts = [
            _SPECIAL + piece if token in self.control else piece
            for token, piece in enumerate(pieces)
        ]
        self._tokenizer = LLTokenizer(
            _Tokens(texts, tokenize, end[0]),  # type: ignore[arg-type]
            n_vocab=len(pieces),
            eos_token=list(end),
            slices=LLTokenizer.json_slices(),
        )
        self._compiled: OrderedDict[str, LLMatcher] = OrderedDict()

    def __len__(self) -> int:
        return len(self.pieces)

    def matcher(self, grammar: Grammar) -> Matcher:
        """The state of a new answer. The grammar is compiled at its first use and then kept.

        Raises:
            BadRequest: the grammar is too large for this vocabulary.
        """
        compiled = self._compiled.pop(grammar.text, None)
        if compiled is None:
            compiled = LLMatcher(self._tokenizer, grammar.text, log_level=0)
            if error := compiled.get_error():
                raise BadRequest(
                    f"The form asked for is too large to be enforced: {error.splitlines()[0]}",
                    hint="Make the schema or the regex smaller.",
                )
        self._compiled[grammar.text] = compiled
        if len(self._compiled) > _KEPT:
            self._compiled.popitem(last=False)
        return Matcher(self, compiled.deep_copy())


class _Tokens:
    """A vocabulary in the shape that llguidance reads one in."""

    is_tokenizer_wrapper = True
    bos_token_id = None
    special_token_ids: Sequence[int] = ()

    def __init__(
        self, tokens: Sequence[bytes], tokenize: Callable[[bytes], list[int]], end: int
    ) -> None:
        self.tokens = tokens
        self.eos_token_id = end
        self._tokenize = tokenize

    def __call__(self, text: bytes | str) -> list[int]:
        return self._tokenize(text.encode("utf-8") if isinstance(text, str) else text)


class Matcher:
    """The state of one answer: what it may go on with. Made by `Vocabulary.matcher`."""

    def __init__(self, vocabulary: Vocabulary, state: LLMatcher) -> None:
        self._vocabulary = vocabulary
        self._state = state

    @property
    def may_end(self) -> bool:
        """The answer so far is complete."""
        return self._state.is_accepting()

    @property
    def must_end(self) -> bool:
        """The answer so far is complete, and nothing can follow it."""
        return self._state.is_stopped() and self._state.is_accepting()

    def allows(self, token: int) -> bool:
        """Whether the answer may go on with a token, or end, if it is one that ends answers."""
        if token in self._vocabulary.end:
            return self.may_end
        return self._state.validate_tokens([token]) == 1

    def mask(self) -> NDArray[np.bool_]:
        """Whether each token is allowed, of shape ``(len(vocabulary),)``.

        Where the grammar dictates text it allows only the token that usually spells it, while
        `allows` takes any that does.

        Raises:
            ServerError: the grammar became too complex to follow.
        """
        bits = np.frombuffer(self._state.compute_bitmask(), dtype=np.uint8)
        self._check()
        return np.unpackbits(bits, count=len(self._vocabulary), bitorder="little").view(np.bool_)

    def accept(self, token: int) -> None:
        """Go on with a token that is allowed.

        Raises:
            ServerError: it is not allowed, or the grammar became too complex to follow.
        """
        if token not in self._vocabulary.end:
            self._state.consume_token(token)
            self._check()
        elif not self.may_end:
            raise ServerError("The answer ended before it was complete.")

    def forced(self) -> list[int]:
        """The tokens that the grammar dictates from here; empty where there is a choice."""
        tokens = self._state.compute_ff_tokens()
        self._check()
        return tokens

    def accept_text(self, text: str) -> None:
        """Go on with text that is written already.

        Raises:
            BadRequest: the text is no beginning of an answer; says from where on.
        """
        tokens = self._vocabulary.tokenize(text.encode("utf-8"))
        taken = self._state.try_consume_tokens(tokens)
        if taken == len(tokens):
            return
        read = b"".join(self._vocabulary.pieces[token] for token in tokens[:taken])
        read += self._longest(self._vocabulary.pieces[tokens[taken]])
        wrong = text.encode("utf-8")[len(read) :].decode("utf-8", "replace")
        at = len(read.decode("utf-8", "ignore"))
        raise BadRequest(
            f"The prefix leaves the form asked for at character {at}, with {_shown(wrong)!r}.",
            hint="Cut the prefix before that, or ask without a form.",
            param="prefix",
        )

    def _longest(self, piece: bytes) -> bytes:
        """As much of a refused token's bytes as may be written here."""
        for size in range(len(piece) - 1, 0, -1):
            tokens = self._vocabulary.tokenize(piece[:size])
            if self._state.validate_tokens(tokens) == len(tokens):
                return piece[:size]
        return b""

    def _check(self) -> None:
        if error := self._state.get_error():
            raise ServerError(
                f"The grammar cannot be followed further: {error.splitlines()[0]}",
                hint="Make the schema or the regex smaller.",
            )


def _shown(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
