"""What an answerer is: the part of the server that decides what is said."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from aideon_core.types import Chunk, Json


class Answerer(Protocol):
    """Answers chat requests; several may be under way at once.

    A request for ``n`` choices is answered by that many calls; see ``one_choice``.
    """

    def answer(self, body: Json) -> AsyncGenerator[Chunk, None]:
        """Answer one request, as an async generator method.

        Args:
            body: the JSON body of ``POST /v1/chat/completions``, already checked for a known
                model and at least one message.

        Yields:
            The answer piece by piece. The last chunks carry ``finish_reason`` and ``usage``.
            An empty chunk opens the stream before there is anything to say; it may carry the
            usage so far, for engines that count in every frame. With a finish reason of
            "stop", ``extra["stop_reason"]`` names the stop string that ended the answer.

        Raises:
            Failure: before the first chunk, to send that HTTP answer instead; later, to end a
                stream with a frame that says ``error``.
            BrokenOff: at any time, to close the TCP connection with the answer unfinished.
        """
        ...


def one_choice(body: Json, index: int) -> Json:
    """What is asked of one of ``n`` choices: one answer, with a seed of its own.

    Seeds count up from the one given, as in the engines that servers run.
    """
    alone = {name: value for name, value in body.items() if name != "n"}
    if index and alone.get("seed") is not None:
        alone["seed"] += index
    return alone


def logprobs_asked(body: Json) -> int | None:
    """How many alternatives for each token a request asks for; ``None`` asks for no logprobs.

    Together takes that number as ``logprobs`` itself, OpenAI's way is ``logprobs: true`` with
    the number as ``top_logprobs``.
    """
    asked = body.get("logprobs")
    if asked is None or asked is False:
        return None
    return int(body.get("top_logprobs") or 0) if asked is True else int(asked)


def most_tokens(body: Json) -> int | None:
    """How many tokens an answer may have, in Together's word or OpenAI's; ``None`` is any."""
    limit = body.get("max_tokens")
    return body.get("max_completion_tokens") if limit is None else limit


def prompt_texts(body: Json) -> list[str]:
    """The text of each message of a request, without images and other parts."""
    return [_text(message.get("content") or "") for message in body["messages"]]


def _text(content: str | Sequence[Json]) -> str:
    if isinstance(content, str):
        return content
    return "".join(part["text"] for part in content if part["type"] == "text")
