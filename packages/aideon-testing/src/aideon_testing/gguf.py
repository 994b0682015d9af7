"""Real answers: a GGUF model through the same engine that answers locally."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING, Self

from aideon_core.errors import AideonError, BadRequest, ContextTooLong
from aideon_core.request import ChatParams, build
from aideon_core.routing import needs
from aideon_testing.answers import logprobs_asked
from aideon_testing.faults import Failure
from aideon_testing.script import pieces

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from types import TracebackType
    from typing import Any

    from aideon_core.types import Chunk, Json, Request

# Parameters of our client, which are no part of the wire.
_OURS = frozenset({"deadline", "output_type"})


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
        if missing := needs(request) - self._backend.abilities:
            # A model that answers past an image would look like one that sees nothing in it.
            raise Failure.error(
                400, f"A GGUF model behind the loopback cannot do this: {', '.join(missing)}."
            )
        try:
            async with aclosing(await self._backend.astream(request)) as chunks:
                async for chunk in chunks:
                    yield chunk
        except ContextTooLong as error:
            raise _over_context(request) from error
        except BadRequest as error:
            raise Failure.error(400, f"{error}", param=error.param, reached="model") from error
        except AideonError as error:
            raise Failure.error(500, f"{error}", type="server_error") from error


def request_of(body: Json) -> Request:
    """Read the body of ``POST /v1/chat/completions``.

    Raises:
        Failure: 400, a message or a parameter is not one the API takes.
    """
    params: dict[str, Any] = {
        name: body[name]
        for name in ChatParams.__annotations__
        if name not in _OURS and body.get(name) is not None
    }
    if (limit := body.get("max_completion_tokens")) is not None:
        params.setdefault("max_tokens", limit)
    if (alternatives := logprobs_asked(body)) is not None:
        params |= {"logprobs": True, "top_logprobs": alternatives}
    if "response_format" in params:
        params["response_format"] = _response_format(params["response_format"])
    try:
        return build(body["messages"], **params)
    except BadRequest as error:
        raise Failure.error(400, f"{error}", param=error.param) from error


def _response_format(asked: Json) -> Json:
    """Put a schema where OpenAI has it; Together also takes it one level higher."""
    if asked.get("schema") is None:
        return asked
    named = {"name": "answer", "schema": asked["schema"]}
    return {"type": "json_schema", "json_schema": named}


def _over_context(request: Request) -> Failure:
    # The engine's error does not carry its counts, so the body says them by our own measure.
    inputs = sum(len(pieces(message.text)) for message in request.messages)
    wanted = request.max_tokens or 0
    return Failure.over_context(limit=inputs + wanted - 1, input_tokens=inputs, max_tokens=wanted)
