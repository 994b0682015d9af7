"""Which sequence answers a prompt, and how much of the prompt it need not read again."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aideon_core.backends.llama_cpp.answer import Answer

# What is read again sooner than a sequence is copied, in tokens.
_CHEAP: Final = 64


@dataclass(slots=True, eq=False)
class Slot:
    """A sequence: what it has read, and the answer being written on it, if any.

    Attributes:
        number: its number in the context.
        tokens: what it has read.
        prompt: how many of these were a prompt's.
        canonical: how many of the first tokens were read in whole batches that begin at
            multiples of the batch size, as any prompt that begins alike would read them.
        ahead: what it is to read before the next token can be chosen.
        answer: what is being written; None when it is free.
        used: when it was last given away; larger is later.
    """

    number: int
    tokens: list[int] = field(default_factory=list)
    prompt: int = 0
    canonical: int = 0
    ahead: list[int] = field(default_factory=list)
    answer: Answer | None = None
    used: int = 0

    @property
    def reads_prompt(self) -> bool:
        """Whether it has not come to the end of its prompt."""
        return self.answer is not None and len(self.tokens) < self.prompt

    def cut(self, tokens: int) -> None:
        """Forget all but the first tokens."""
        del self.tokens[tokens:]
        self.canonical = min(self.canonical, tokens)
        self.prompt = min(self.prompt, tokens)

    def take_over(self, other: Slot) -> None:
        """Have read what the other has."""
        self.tokens = list(other.tokens)
        self.prompt, self.canonical = other.prompt, other.canonical


@dataclass(frozen=True, slots=True)
class Place:
    """Where a prompt is answered: on ``slot``, with the first ``kept`` tokens of ``donor``.

    The donor is the slot itself, or another to copy from.
    """

    slot: Slot
    donor: Slot
    kept: int


def place(
    slots: Sequence[Slot], tokens: Sequence[int], *, reproducible: bool, batch: int
) -> Place | None:
    """Choose where to answer a prompt; None to wait.

    A prompt goes on where its beginning was read, on a copy if that would cost another
    conversation its memory, and waits for a beginning that is being read right now.

    Args:
        slots: the sequences there are.
        tokens: the prompt.
        reproducible: use only what would be computed to the same bits from scratch, or
            belongs to the very conversation that goes on.
        batch: how many tokens of a prompt are read at once.
    """
    free = [slot for slot in slots if slot.answer is None]
    if not free:
        return None
    kept = {slot.number: reusable(slot, tokens, reproducible, batch) for slot in slots}
    donor = max(slots, key=lambda slot: (kept[slot.number], slot.answer is None))
    most = kept[donor.number]
    if any(_will_share(slot, tokens) >= most + batch for slot in slots if slot.reads_prompt):
        return None
    oldest = min(free, key=lambda slot: (bool(slot.tokens), slot.used))
    if donor.answer is None:
        lost = len(donor.tokens) - most
        if lost == 0 or donor is oldest or (lost <= _CHEAP <= most and oldest.tokens):
            return Place(donor, donor, most)
    if most < _CHEAP:
        return Place(oldest, oldest, kept[oldest.number])
    return Place(oldest, donor, most)


def reusable(slot: Slot, tokens: Sequence[int], reproducible: bool, batch: int) -> int:  # noqa: FBT001 - passed on
    """How many of the prompt's first tokens need not be read again; never the last one."""
    shared = common(slot.tokens, tokens[:-1])
    if not reproducible:
        return shared
    goes_on = len(slot.tokens) > slot.prompt > 0 and shared == len(slot.tokens)
    return shared if goes_on else min(shared, slot.canonical) // batch * batch


def _will_share(slot: Slot, tokens: Sequence[int]) -> int:
    return common([*slot.tokens, *slot.ahead], tokens[:-1])


def common(one: Sequence[int], other: Sequence[int]) -> int:
    """How many tokens two sequences begin with alike."""
    most = min(len(one), len(other))
    if one[:most] == other[:most]:
        return most
    return next(at for at in range(most) if one[at] != other[at])
