"""What an answerer is: the part of the server that decides what is said."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from aideon_core.types import Chunk, Json


class Answerer(Protocol):
    """Answers chat requests; several may be under way at once."""

    def answer(self, body: Json) -> AsyncGenerator[Chunk, None]:
        """Answer one request, as an async generator method.

        Args:
            body: the JSON body of ``POST /v1/chat/completions``, already checked for a known
                model and at least one message.

        Yields:
            The answer piece by piece. The last chunks carry ``finish_reason`` and ``usage``.
            An empty chunk opens the stream before there is anything to say.

        Raises:
            Failure: before the first chunk, to send that HTTP answer instead.
            BrokenOff: at any time, to close the TCP connection with the answer unfinished.
        """
        ...
