"""Recordings as a source of answers: what was recorded for a request is what it gets."""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Self

from aideon_testing.faults import Failure
from aideon_testing.replay import files
from aideon_testing.replay.matching import Question

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from os import PathLike

    from aideon_testing.connection import HttpRequest, HttpResponse
    from aideon_testing.interception import Proceed
    from aideon_testing.replay.exchange import Exchange
    from aideon_testing.wire import Stamp

_logger = logging.getLogger(__name__)

# No API sends it (RFC 9110 keeps it unused), no SDK retries it, and no client takes it for
# an unknown model or a wrong parameter.
_UNMATCHED_STATUS = 418


class Recordings:
    """Recorded exchanges that answer the requests they were recorded for.

    ``LoopbackTogether(Recordings.load("cassettes"))`` serves them. A request matches when its
    method, path, query and body say the same: hosts, base paths and headers do not count, JSON
    is compared by value and forms by their parts. What was recorded more than once is served
    in the recorded order, the last one again and again. No key is asked for.

    Args:
        exchanges: in the order in which they are to be served.
        ignore: fields of the body that do not count, as JSON paths such as
            ``stream_options`` or ``messages[*].name``.
        pass_through: whether a request without a recording goes to the server's own
            endpoints; otherwise it gets an error that names the nearest recording.

    Attributes:
        left_out: the files below the loaded directory that hold no recordings, with the
            reason for each.
    """

    def __init__(
        self,
        exchanges: Iterable[Exchange],
        *,
        ignore: Sequence[str] = (),
        pass_through: bool = False,
    ) -> None:
        self.left_out: dict[Path, str] = {}
        self._exchanges = tuple(exchanges)
        self._ignore = tuple(ignore)
        self._pass_through = pass_through
        self._questions = [Question.of(each.request, self._ignore) for each in self._exchanges]
        self._found: defaultdict[tuple[str, ...], list[Exchange]] = defaultdict(list)
        for question, exchange in zip(self._questions, self._exchanges, strict=True):
            self._found[question.key].append(exchange)
        self._served: Counter[tuple[str, ...]] = Counter()

    @classmethod
    def load(
        cls, path: str | PathLike[str], *, ignore: Sequence[str] = (), pass_through: bool = False
    ) -> Self:
        """Read cassettes of go-vcr and vcrpy, and tapes of huggingface.js.

        Args:
            path: a file, or a directory whose files are all read, in the order of their paths.
            ignore: see the class.
            pass_through: see the class.

        Raises:
            UnreadableRecording: files are broken, or there are no recordings at all.
            MissingDependency: there are YAML files and the ``replay`` extra is not installed.
            FileNotFoundError: there is nothing at ``path``.
        """
        exchanges, left_out = files.load(Path(path))
        recordings = cls(exchanges, ignore=ignore, pass_through=pass_through)
        recordings.left_out = left_out
        for file, reason in left_out.items():
            _logger.info("Left out %s: %s", file, reason)
        return recordings

    def __len__(self) -> int:
        return len(self._exchanges)

    def __iter__(self) -> Iterator[Exchange]:
        return iter(self._exchanges)

    def of_model(self, model: str) -> Self:
        """Only the exchanges whose request names a model, as recordings of their own."""
        return type(self)(
            (exchange for exchange in self._exchanges if exchange.model == model),
            ignore=self._ignore,
            pass_through=self._pass_through,
        )

    def rewind(self) -> None:
        """Serve what was recorded more than once from its first answer again."""
        self._served.clear()

    async def intercept(self, request: HttpRequest, stamp: Stamp, proceed: Proceed) -> HttpResponse:
        """Answer a request with what was recorded for it; an Interceptor of the server.

        Raises:
            Failure: 418, nothing was recorded for it and nothing is passed through.
        """
        asked = Question.of(request, self._ignore)
        key = asked.key
        if key not in self._found:
            if self._pass_through:
                return await proceed(request, stamp)
            raise self._unmatched(asked)
        answers = self._found[key]
        turn = self._served[key]
        self._served[key] += 1
        return answers[min(turn, len(answers) - 1)].response.to(request)

    def _unmatched(self, asked: Question) -> Failure:
        message = f"Nothing was recorded for {asked.method} {asked.path}"
        there = [
            (question.distance(asked), place)
            for place, question in enumerate(self._questions)
            if (question.method, question.path) == (asked.method, asked.path)
        ]
        if there:
            _, nearest = min(there)
            difference = self._questions[nearest].difference(asked)
            assert difference is not None  # else the two would be one question
            param = difference.path
            message += (
                f" with this content. The nearest is {self._exchanges[nearest]}; first they "
                f"differ at {param}: recorded is {difference.recorded}, asked was "
                f"{difference.asked}. A field that does not matter goes into ignore=(...)."
            )
        else:
            param = None
            counts = Counter(f"{each.method} {each.path}" for each in self._questions)
            told = ", ".join(f"{name} ({count})" for name, count in counts.items())
            message += f". Recorded are: {told or 'no exchanges at all'}."
        if self.left_out:
            message += f" Files without recordings: {len(self.left_out)}; see left_out."
        return Failure.error(_UNMATCHED_STATUS, message, param=param, code="not_recorded")
