"""Several callers at once, and callers that go away."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from aideon_testing.conformance.forms import check_text
from aideon_testing.conformance.promises import hold, promise
from aideon_testing.conformance.subject import HOWS

if TYPE_CHECKING:
    from aideon_testing.conformance.subject import Subject

_THREADS: Final = 8
_LONG: Final = 1000
_STORY: Final = "Tell a very long story about a hedgehog."
# What was cancelled would take longer than this on, were it not.
_SOON: Final = 30.0


class ServingBodies:
    """Requests beside each other."""

    @promise(how=HOWS)
    def test_eight_threads_at_once(self, subject: Subject, how: str) -> None:
        """Eight threads are all answered, each on its own prompt."""
        prompts = [f"Say hello {'again ' * number}" for number in range(_THREADS)]
        # The alone-asked count of each prompt tells whose answer a thread got.
        alone = [subject.ask(each, max_tokens=1).completion.usage for each in prompts]
        with ThreadPoolExecutor(_THREADS) as threads:
            answers = list(threads.map(lambda each: subject.ask(each, how, max_tokens=8), prompts))
        for expected, answer in zip(alone, answers, strict=True):
            check_text(answer.completion)
            counted = answer.completion.usage
            if expected and counted:
                hold(
                    counted.input_tokens == expected.input_tokens,
                    f"{counted.input_tokens} input tokens came, {expected.input_tokens} were sent.",
                )

    @promise()
    def test_eight_tasks_at_once(self, subject: Subject) -> None:
        """Eight tasks of one event loop are all answered."""

        async def all_of_them() -> None:
            asked = [subject.asking(f"Say {each}.", max_tokens=8) for each in range(_THREADS)]
            for answer in await asyncio.gather(*asked):
                check_text(answer.completion)

        subject.awaited(all_of_them())

    @promise()
    def test_a_stream_closed_early_ends(self, subject: Subject) -> None:
        """After a stream is closed in the middle, the next request is answered at once."""
        with subject.client.stream(_STORY, max_tokens=_LONG, temperature=0.0) as stream:
            next(iter(stream))
        check_text(subject.ask("Name a prime.", max_tokens=4, deadline=_SOON).completion)

    @promise()
    def test_a_closed_stream_gives_nothing_more(self, subject: Subject) -> None:
        """A closed stream ends; it neither goes on nor breaks."""
        stream = subject.client.stream(_STORY, max_tokens=_LONG, temperature=0.0)
        pieces = iter(stream)
        next(pieces)
        stream.close()
        rest = list(pieces)
        hold(not rest, f"{len(rest)} chunks came after the close.")
        stream.close()

    @promise(how=HOWS)
    def test_a_cancelled_task_ends(self, subject: Subject, how: str) -> None:
        """After a task is cancelled, the next request is answered at once."""

        async def cancel() -> None:
            task = asyncio.ensure_future(subject.asking(_STORY, how, max_tokens=_LONG))
            await asyncio.sleep(0.2)
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
            check_text((await subject.asking("A prime?", max_tokens=4, deadline=_SOON)).completion)

        subject.awaited(cancel())
