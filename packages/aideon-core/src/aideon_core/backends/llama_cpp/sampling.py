"""From the logits of one position to one token.

The order is vLLM's, which most hosts run, so that a request means the same on both sides:
``logit_bias``, the penalties for repetition, presence and frequency, the constraint, the
temperature, then ``min_p``, ``top_k`` and ``top_p``, then the draw. Where tokens are equally
likely the lower id comes first. The vocabulary is sorted only for a ``top_p`` that its 4096
likeliest tokens do not reach.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np

from aideon_core.errors import BadRequest, ServerError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Self

    from numpy.typing import NDArray

    from aideon_core.types import Request

DEFAULT_TEMPERATURE = 0.7
DEFAULT_TOP_K = 40
DEFAULT_TOP_P = 0.95
# Below it vLLM takes the likeliest token, and 1/temperature leaves the range of a float32.
_GREEDY_BELOW = 1e-5
_BLOCK = 512
_FEW = (128, 4096)


class Constraint(Protocol):
    """What may come next, by a grammar."""

    def allows(self, token: int) -> bool:
        """Whether the token may come next."""
        ...

    def mask(self) -> NDArray[np.bool_]:
        """Every token that may come next: shape ``(n_vocab,)``, True where allowed."""
        ...


@dataclass(frozen=True, slots=True)
class Pick:
    """A token, how likely the model found it, and what it found likeliest there.

    ``logprob`` and ``top`` are natural logarithms of the model's own probabilities, before any
    setting of the request; both are empty unless the request asks for ``logprobs``. ``top``
    holds ``top_logprobs`` pairs of token and logarithm, the likeliest first.
    """

    token: int
    logprob: float | None
    top: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Settings:
    """How freely tokens are drawn.

    ``temperature`` 0 takes the likeliest; ``top_k`` below 1, ``top_p`` 1 and ``min_p`` 0 cut
    nothing.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0

    @classmethod
    def of(cls, request: Request) -> Self:
        """The request's settings; our cut is for requests that say nothing about cutting.

        One that names ``top_k``, ``top_p`` or ``min_p`` gets what it names and no more, so that
        ``top_p=1`` alone is the model's whole distribution, as it is on a host.
        """
        warm = DEFAULT_TEMPERATURE if request.temperature is None else request.temperature
        if request.top_k is request.top_p is request.min_p is None:
            return cls(warm, DEFAULT_TOP_K, DEFAULT_TOP_P)
        return cls(
            warm,
            0 if request.top_k is None else request.top_k,
            1.0 if request.top_p is None else request.top_p,
            0.0 if request.min_p is None else request.min_p,
        )


class Sampler:
    """Picks the tokens of one answer.

    Random numbers belong to places in the answer: ``pick`` may be asked twice and says the same,
    ``accept`` moves on. So the same seed over the same logits gives the same tokens, whichever
    of them a grammar dictated.

    Args:
        request: whose settings are followed.
        n_vocab: how many logits there are for each position.
        seed: used instead of the request's, as for one of several answers; without either the
            tokens are random.
        prompt: the tokens that ``repetition_penalty`` counts beside those of the answer.

    Raises:
        BadRequest: ``logit_bias`` names a token that the vocabulary does not have.
    """

    def __init__(
        self,
        request: Request,
        n_vocab: int,
        *,
        seed: int | None = None,
        prompt: Sequence[int] = (),
    ) -> None:
        self._settings = Settings.of(request)
        self._edits = _Edits(request, n_vocab, prompt)
        # Memory asked for anew would be mapped in anew, which takes longer than the arithmetic.
        self._room = np.empty(n_vocab, np.float32)
        self._n_top = (request.top_logprobs or 0) if request.logprobs else None
        self._random = Random(request.seed if seed is None else seed)  # noqa: S311 - no secret
        self._draws = self._next_draws()

    def pick(self, logits: NDArray[np.float32], constraint: Constraint | None = None) -> Pick:
        """The next token; the logits, shape ``(n_vocab,)``, are left as they are.

        A mask costs more than a question, so the first draw is from all tokens, and only if the
        constraint refuses that one is there a second draw, from the allowed ones.

        Greedy, that is the masked choice: the best of all, if allowed, is the best allowed.
        Without a cut it is the masked distribution: where the allowed tokens hold the share A,
        a token of probability p comes first with p, or second with (1 - A) p/A, together p/A.
        With one, it is a mixture of two distributions, in A and 1 - A of the cases: the cut of
        all tokens as far as it is allowed, and the cut of the allowed tokens. Only allowed
        tokens come, and any two that are in both cuts keep the ratio the model gave them; those
        in the second alone come less often than if the mask had been first.

        Raises:
            ServerError: the logits are no numbers, or the constraint leaves no token.
        """
        values = self._edits.applied(logits)
        first, second = self._draws
        token = self._choice(values, first)
        if constraint is not None and not constraint.allows(token):
            allowed = np.flatnonzero(constraint.mask())
            if not allowed.size:
                raise ServerError("The form asked for allows no token at all to come next.")
            token = int(allowed[self._choice(values[allowed], second)])
        return self.forced(logits, token)

    def accept(self, token: int) -> None:
        """Count the token, picked or forced, as part of the answer."""
        self._edits.count(token)
        self._draws = self._next_draws()

    def forced(self, logits: NDArray[np.float32], token: int) -> Pick:
        """What there is to tell of a token that is certain already.

        Raises:
            ServerError: the request asks for logprobs and the logits are no numbers.
        """
        if self._n_top is None:
            return Pick(token, None)
        peak = _peak(logits)
        weights = np.subtract(logits, peak, out=self._room)
        log_total = math.log(float(np.exp(weights, out=weights).sum()))
        best = _likeliest(logits, self._n_top)
        told = [token, *best[np.argsort(-logits[best], kind="stable")].tolist()]
        logprobs = [float(logits[each]) - float(peak) - log_total for each in told]
        return Pick(token, logprobs[0], tuple(zip(told[1:], logprobs[1:], strict=True)))

    def _choice(self, values: NDArray[np.float32], draw: float) -> int:
        if self._settings.temperature < _GREEDY_BELOW:
            best = values.argmax()
            _peak(values[best])
            return int(best)
        kept, weights = distribution(values, self._settings, self._room)
        at = _where_sum_reaches(weights, draw, "right")
        return at if kept is None else int(kept[at])

    def _next_draws(self) -> tuple[float, float]:
        # Both, needed or not: the tokens to come must not depend on what was refused before.
        return self._random.random(), self._random.random()


def distribution(
    values: NDArray[np.float32], settings: Settings, room: NDArray[np.float32] | None = None
) -> tuple[NDArray[np.intp] | None, NDArray[np.float32]]:
    """What is drawn from: indices into ``values``, and a weight in proportion to each's chance.

    Indices of None stand for all. The settings must not be greedy. The weights are written into
    ``room`` where that is given, at least as large as ``values``.

    Raises:
        ServerError: the values are no numbers, or all minus infinity.
    """
    peak, kept = _peak(values), None
    # Each cut keeps the likeliest so many, so min_p may follow top_k; top_p counts on both.
    if 0 < settings.top_k < values.size:
        kept = _likeliest(values, settings.top_k)
        values = values[kept]
    scaled = np.subtract(values, peak, out=None if room is None else room[: values.size])
    scaled *= np.float32(1 / settings.temperature)
    if settings.min_p > 0:
        likely = np.flatnonzero(scaled >= np.float32(math.log(settings.min_p)))
        kept, scaled = likely if kept is None else kept[likely], scaled[likely]
    weights = np.exp(scaled, out=scaled)
    if settings.top_p < 1:
        nucleus = _nucleus(weights, settings.top_p)
        kept, weights = nucleus if kept is None else kept[nucleus], weights[nucleus]
    return kept, weights


class _Edits:
    """What a request adds to logits, which concerns few tokens of a large vocabulary."""

    def __init__(self, request: Request, n_vocab: int, prompt: Sequence[int]) -> None:
        bias = request.logit_bias or {}
        for token in bias:
            if not 0 <= token < n_vocab:
                raise BadRequest(
                    f"logit_bias names the token {token}, and the model's are 0 to {n_vocab - 1}.",
                    hint="Token ids differ from model to model.",
                    param="logit_bias",
                )
        self._biased = np.array(list(bias), np.intp)
        self._bias = np.array(list(bias.values()), np.float32)
        repetition = request.repetition_penalty
        self._repetition = np.float32(1.0 if repetition is None else repetition)
        self._presence = request.presence_penalty or 0.0
        self._frequency = request.frequency_penalty or 0.0
        self._counts: Counter[int] = Counter()
        # The tokens seen so far, in order, and what presence and frequency take from each.
        self._slots: dict[int, int] = {}
        self._seen = np.empty(n_vocab, np.intp)
        self._penalties = np.zeros(n_vocab, np.float32)
        self._changed = np.empty(n_vocab, np.float32)
        if self._repetition != 1:
            for token in prompt:
                self._slot(token)

    def count(self, token: int) -> None:
        if self._repetition == 1 and not self._presence and not self._frequency:
            return
        self._counts[token] += 1
        penalty = self._presence + self._frequency * self._counts[token]
        self._penalties[self._slot(token)] = penalty

    def _slot(self, token: int) -> int:
        slot = self._slots.setdefault(token, len(self._slots))
        self._seen[slot] = token
        return slot

    def applied(self, logits: NDArray[np.float32]) -> NDArray[np.float32]:
        """The logits themselves if there is nothing to change, else a copy until the next."""
        n_seen = len(self._slots)
        if not n_seen and not self._biased.size:
            return logits
        # They are llama.cpp's memory; a copy takes no longer than another argmax would.
        np.copyto(values := self._changed, logits)
        values[self._biased] += self._bias
        seen = self._seen[:n_seen]
        found = values[seen]
        if self._repetition != 1:
            found = np.where(found > 0, found / self._repetition, found * self._repetition)
        values[seen] = found - self._penalties[:n_seen]
        return values


def _peak(values: NDArray[np.float32] | np.float32) -> np.float32:
    """The greatest value; numpy gives NaN as that where there is one."""
    peak = np.float32(values.max())
    if not np.isfinite(peak):
        raise ServerError(
            f"The model computed no usable logits: the greatest of them is {peak}.",
            hint="Its file may be damaged; other settings of logit_bias or penalties may help.",
        )
    return peak


def _likeliest(values: NDArray[np.float32], k: int) -> NDArray[np.intp]:
    """The ascending indices of the k greatest values, of equal ones the first.

    Cut into at least k columns, the k-th greatest of their maxima is reached by k values, so
    none of the k greatest is in a column that stays below it. About k columns are left to
    look into, and columns of sqrt(n/k) values make both searches equally small.
    """
    if k >= values.size or k < 1:
        return np.arange(min(max(k, 0), values.size))
    rows = math.isqrt(values.size // k)
    columns = values.size // rows
    table = values[: rows * columns].reshape(rows, columns)
    maxima = table.max(axis=0)
    bar = np.partition(maxima, columns - k)[columns - k]
    starts = np.arange(0, rows * columns, columns)
    inside = starts[:, None] + np.flatnonzero(maxima >= bar)
    candidates = np.append(inside, np.arange(rows * columns, values.size))
    found = values[candidates]
    last = np.partition(found, found.size - k)[found.size - k]
    return candidates[_at_least(last, found, k)]


def _at_least(bar: np.float32, values: NDArray[np.float32], k: int) -> NDArray[np.intp]:
    """The ascending indices of the k greatest values, the least of which equals the bar."""
    kept = np.flatnonzero(values >= bar)
    if surplus := kept.size - k:
        return np.delete(kept, np.flatnonzero(values[kept] == bar)[-surplus:])
    return kept


def _nucleus(weights: NDArray[np.float32], share: float) -> NDArray[np.intp]:
    """The indices of the fewest of the greatest weights that make up that share of all."""
    total = float(weights.sum())
    for k in _FEW:
        if k < weights.size:
            few = _likeliest(weights, k)
            of_few = share * total / float(weights[few].sum())
            if of_few <= 1:
                return few[_nucleus(weights[few], of_few)]
    falling = -weights
    falling.sort()
    np.negative(falling, out=falling)
    last = _where_sum_reaches(falling, share, "left")
    return _at_least(falling[last], weights, last + 1)


def _where_sum_reaches(
    weights: NDArray[np.float32], share: float, side: Literal["left", "right"]
) -> int:
    """The index where the running sum comes to a share of the whole, "right": surpasses it.

    Block by block, because a running sum is slow, and in float32 far off at the end.
    """
    sums = np.add.reduceat(weights, np.arange(0, weights.size, _BLOCK))
    running = sums.cumsum(dtype=np.float64)
    target = share * running[-1]
    block = _index(running, target, side)
    if block:
        target -= running[block - 1]
    inside = weights[block * _BLOCK : (block + 1) * _BLOCK].cumsum(dtype=np.float64)
    return block * _BLOCK + _index(inside, target, side)


def _index(running: NDArray[np.float64], target: float, side: Literal["left", "right"]) -> int:
    # Rounding may put the target past the end, where weights of nothing must not be taken.
    last = running.searchsorted(running[-1])
    return int(min(running.searchsorted(target, side), last))
