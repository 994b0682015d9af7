"""Several answers from one model: who reads, who writes, and on which sequence."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from aideon_core.backends.llama_cpp.answer import Answer
from aideon_core.backends.llama_cpp.asking import Asked, ask
from aideon_core.backends.llama_cpp.context import Context
from aideon_core.backends.llama_cpp.prompts.template import ChatTemplate
from aideon_core.backends.llama_cpp.slots import Slot, place
from aideon_core.errors import AideonError, ContextTooLong
from aideon_core.types import Chunk, Usage

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from aideon_core.backends.llama_cpp.job import Job
    from aideon_core.backends.llama_cpp.model import Model
    from aideon_core.backends.llama_cpp.options import ModelOptions

# How many tokens of a prompt are read for each token that those who write get meanwhile, so that
# a long prompt stops nobody, and several short ones are soon written to at once.
_READ_PER_WRITE: Final = 16
# A CPU computes fewer rows no faster together than one after the other.
_WIDE_ON_CPU: Final = 4


@dataclass(slots=True, eq=False)
class _Task:
    """One of the answers to a job; a job may ask for several."""

    job: Job
    asked: Asked
    index: int
    seed: int | None

    @property
    def reproducible(self) -> bool:
        return self.seed is not None or self.asked.request.temperature == 0

    def tell(self, chunk: Chunk) -> None:
        self.job.sink(replace(chunk, index=self.index) if self.index else chunk)


class Scheduler:
    """Shares a model among the requests that wait for it. Not safe across threads.

    Args:
        model: the model.
        options: how it was loaded.

    Raises:
        LoadFailed: there is no memory for its contexts.
    """

    def __init__(self, model: Model, options: ModelOptions) -> None:
        self._model, self._options = model, options
        self._context = Context(model, options)
        self._slots = [Slot(number) for number in range(self._context.n_seq)]
        self._tasks: dict[int, _Task] = {}
        self._waiting: deque[_Task] = deque()
        self._templates: dict[str | None, ChatTemplate] = {}
        self._given = 0
        self._wide = 1 if options.n_gpu_layers else _WIDE_ON_CPU

    def close(self) -> None:
        """Free the memory; whoever waits is not told."""
        self._context.close()

    @property
    def seats(self) -> int:
        """How many answers are written at once."""
        return len(self._slots)

    @property
    def is_busy(self) -> bool:
        """Whether there is anything to do."""
        return bool(self._waiting or self._tasks)

    def add(self, job: Job) -> None:
        """Take a job; what is wrong with it goes to its sink."""
        try:
            asked = ask(self._model, self._template(job.chat_template), job.request)
            self._check_length(asked)
        except Exception as error:  # noqa: BLE001 - raised where the caller waits
            job.end(error)
            return
        seed = job.request.seed
        job.answers = job.request.n or 1
        for index in range(job.answers):
            own = None if seed is None else seed + index
            self._waiting.append(_Task(job, asked, index, own))

    def _check_length(self, asked: Asked) -> None:
        length, most = len(asked.tokens), self._context.n_ctx
        if length >= most:
            raise ContextTooLong(
                f"The prompt is {length} tokens and the model's context holds {most}.",
                hint="Shorten the messages, raise n_ctx, or use a model with a larger context.",
            )

    def _template(self, override: str | None) -> ChatTemplate:
        if override not in self._templates:
            self._templates[override] = ChatTemplate.of(
                self._model, override, name=self._options.path.name
            )
        return self._templates[override]

    def step(self) -> None:
        """Read a piece of one prompt, and write a little of every answer."""
        self._drop()
        self._admit()
        reader = min(
            (slot for slot in self._slots if slot.reads_prompt),
            key=lambda slot: slot.used,
            default=None,
        )
        read = 0 if reader is None else self._read(reader)
        for _ in range(max(1, read // _READ_PER_WRITE)):
            self._drop()
            writers = [s for s in self._slots if s.answer is not None and not s.reads_prompt]
            if not writers:
                break
            self._write(writers)

    def _drop(self) -> None:
        """Forget what nobody wants any more."""
        for slot in self._slots:
            if slot.answer is not None and not self._tasks[slot.number].job.wanted():
                self._free(slot)
        if any(not task.job.wanted() for task in self._waiting):
            self._waiting = deque(task for task in self._waiting if task.job.wanted())

    def _free(self, slot: Slot) -> None:
        slot.answer, slot.ahead = None, []
        del self._tasks[slot.number]

    def _admit(self) -> None:
        """Give free slots to those who wait, in the order in which they came."""
        still: deque[_Task] = deque()
        while self._waiting:
            task = self._waiting.popleft()
            try:
                placed = self._begin(task)
            except Exception as error:  # noqa: BLE001 - raised where the caller waits
                task.job.end(error)
                continue
            if not placed:
                still.append(task)
        self._waiting = still

    def _begin(self, task: _Task) -> bool:
        tokens = list(task.asked.tokens)
        found = place(
            self._slots,
            tokens,
            reproducible=self._options.reproducible and task.reproducible,
            batch=self._context.n_batch,
        )
        if found is None:
            return False
        room = self._context.n_ctx - len(tokens)
        answer = Answer(
            self._model,
            task.asked,
            limit=min(task.asked.request.max_tokens or room, room),
            seed=task.seed,
            sink=task.tell,
        )
        slot, kept = found.slot, found.kept
        if found.donor is not slot:
            self._context.copy(found.donor.number, slot.number)
            slot.take_over(found.donor)
        if not self._context.keep(slot.number, kept):
            self._context.clear(slot.number)
            kept = 0
        slot.cut(kept)
        self._given += 1
        slot.answer, slot.used, slot.prompt = answer, self._given, len(tokens)
        slot.ahead = tokens[kept:]
        task.job.cached += kept if task.index == 0 else 0
        self._tasks[slot.number] = task
        if task.job.began_at is None:
            task.job.began_at, task.job.beside = time.monotonic(), len(self._tasks)
        return True

    def _read(self, slot: Slot) -> int:
        """Read on in a prompt, to the end of the batch that any prompt alike would read.

        Returns:
            How many tokens were read.
        """
        size = self._context.n_batch
        at = len(slot.tokens)
        piece = slot.ahead[: size - at % size]
        logits = self._decode([(slot, piece)])
        if logits is None:
            return 0
        if slot.canonical == at and at % size == 0 and len(piece) == size:
            slot.canonical += size
        if not slot.ahead:
            self._take(slot, logits[0])
        return len(piece)

    def _write(self, writers: list[Slot]) -> None:
        """Let every writer read what it wrote last, and write on."""
        together = [slot for slot in writers if not self._is_alone(slot)]
        rows = sum(len(slot.ahead) for slot in together)
        if len(together) < self._wide or rows > self._context.n_batch:
            together = []
        groups = [[slot] for slot in writers if slot not in together]
        for group in [together, *groups] if together else groups:
            size = self._context.n_batch
            parts = [(slot, slot.ahead[:size]) for slot in group]
            logits = self._decode(parts)
            if logits is None:
                return
            for slot, each in zip(group, logits, strict=True):
                if not slot.ahead:
                    self._take(slot, each)

    def _is_alone(self, slot: Slot) -> bool:
        """Whether a slot's rows are computed alone, so that their bits depend on nobody."""
        return self._options.reproducible and self._tasks[slot.number].reproducible

    def _decode(self, parts: list[tuple[Slot, list[int]]]) -> list[NDArray[np.float32]] | None:
        """Read the next tokens of some slots; None if that failed, which those concerned hear."""
        try:
            logits = self._context.decode(
                [(slot.number, len(slot.tokens), tokens) for slot, tokens in parts]
            )
        except AideonError as error:
            for slot, _ in parts:
                self._context.clear(slot.number)
                slot.cut(0)
                self._tasks[slot.number].job.end(error)
                self._free(slot)
            return None
        for slot, tokens in parts:
            slot.tokens += tokens
            del slot.ahead[: len(tokens)]
        return logits

    def _take(self, slot: Slot, logits: NDArray[np.float32]) -> None:
        task, answer = self._tasks[slot.number], slot.answer
        assert answer is not None
        try:
            slot.ahead = answer.take(logits)
            if answer.taken_back:
                self._go_back(slot, answer.taken_back)
        except Exception as error:  # noqa: BLE001 - raised where the caller waits
            task.job.end(error)
            self._free(slot)
            return
        if answer.finish is not None:
            self._finish(slot, task, answer)

    def _go_back(self, slot: Slot, tokens: int) -> None:
        """Forget the last tokens of an answer, which goes on from before them."""
        known = [*slot.tokens, *slot.ahead][:-tokens]
        # The last one is read again, for the logits after it.
        kept = min(len(known) - 1, len(slot.tokens))
        if not self._context.keep(slot.number, kept):
            self._context.clear(slot.number)
            kept = 0
        prompt = slot.prompt
        slot.cut(kept)
        slot.prompt, slot.ahead = prompt, known[kept:]

    def _finish(self, slot: Slot, task: _Task, answer: Answer) -> None:
        job = task.job
        job.answers -= 1
        job.written += answer.written
        job.warnings += answer.warnings
        self._free(slot)
        ended = Chunk(finish_reason=answer.finish)
        if job.answers == 0:
            usage = Usage(len(task.asked.tokens), job.written, job.cached)
            if task.index:
                # The facts about all answers come with the first one.
                task.tell(ended)
                ended = Chunk()
            job.sink(replace(ended, usage=usage, warnings=tuple(job.warnings)))
            job.end(None)
        else:
            task.tell(ended)
