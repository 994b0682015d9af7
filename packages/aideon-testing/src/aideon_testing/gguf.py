"""Real answers: a GGUF model through the same engine that answers locally."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING, Self

from aideon_core.errors import AideonError, ContextTooLong
from aideon_core.types import Message, Request, ToolCall
from aideon_testing.faults import Failure
from aideon_testing.script import pieces

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping
    from types import TracebackType
    from typing import Any

    from aideon_core.types import Chunk, Json


class GgufAnswers:
    """Answers every request with one local model, whatever model the request names.

    Needs the ``gguf`` extra. The model is loaded by the first request; ``close``, or leaving
    the context, lets go of it.

    Args:
        model: a catalogue id or the path of a GGUF file.

    Raises:
        AideonError: the model is not known, not on this machine, or no GGUF file, or the
            extra is not installed.
    """

    def __init__(self, model: str) -> None:
        # The engine is an extra: scripts must work without it.
        from aideon_core.backends.llama_cpp import LlamaCppBackend

        self._backend = LlamaCppBackend(model)
        if (reason := self._backend.unavailable()) is not None:
            raise reason

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the model's memory and threads."""
        self._backend.close()

    async def answer(self, body: Json) -> AsyncGenerator[Chunk, None]:
        """Let the model answer; see Answerer."""
        request = request_of(body)
        try:
            async with aclosing(await self._backend.astream(request)) as chunks:
                async for chunk in chunks:
                    yield chunk
        except ContextTooLong as error:
            raise _over_context(request) from error
        except AideonError as error:
            raise Failure.error(500, f"{error}", type="server_error") from error


def request_of(body: Json) -> Request:
    """Read the body of ``POST /v1/chat/completions``.

    Raises:
        Failure: 400, a message or a tool call is not of the wire's shape.
    """
    stop = body.get("stop") or ()
    try:
        return Request(
            messages=tuple(_message(message) for message in body["messages"]),
            temperature=body.get("temperature"),
            top_p=body.get("top_p"),
            max_tokens=body.get("max_tokens") or body.get("max_completion_tokens"),
            stop=(stop,) if isinstance(stop, str) else tuple(stop),
            seed=body.get("seed"),
            presence_penalty=body.get("presence_penalty"),
            frequency_penalty=body.get("frequency_penalty"),
            tools=tuple(body.get("tools") or ()),
            tool_choice=body.get("tool_choice"),
            parallel_tool_calls=body.get("parallel_tool_calls"),
            response_format=body.get("response_format"),
        )
    except (AttributeError, KeyError, TypeError) as error:
        raise Failure.invalid_input() from error


def _message(message: Mapping[str, Any]) -> Message:
    content = message.get("content") or ""
    return Message(
        role=message["role"],
        content=content if isinstance(content, str) else tuple(content),
        name=message.get("name"),
        tool_calls=tuple(
            ToolCall(call["id"], call["function"]["name"], call["function"]["arguments"])
            for call in message.get("tool_calls") or ()
        ),
        tool_call_id=message.get("tool_call_id"),
    )


def _over_context(request: Request) -> Failure:
    # The engine's error does not carry its counts, so the body says them by our own measure.
    inputs = sum(len(pieces(message.text)) for message in request.messages)
    wanted = request.max_tokens or 0
    return Failure.over_context(limit=inputs + wanted - 1, input_tokens=inputs, max_tokens=wanted)
