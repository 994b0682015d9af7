"""Chat answers that are not streamed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aideon_core.types import Completion
from aideon_testing.wire import shapes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aideon_core.types import Chunk, TokenLogprob
    from aideon_testing.dialects import Body, Dialect
    from aideon_testing.wire import Stamp


class BodyWriter:
    """Writes the body of one answer.

    Args:
        stamp: the response's.
        dialect: the model's.
        body: the layout to follow.
        seed: the one asked for.
    """

    def __init__(self, stamp: Stamp, dialect: Dialect, body: Body, *, seed: object = None) -> None:
        self._stamp = stamp
        self._dialect = dialect
        self._body = body
        self._seed = shapes.seed_number(dialect, seed, stamp.id)

    def write(
        self, choices: Sequence[Sequence[Chunk]], *, prompt: Sequence[object] = ()
    ) -> dict[str, object]:
        """The body that says what was said for each choice; ``prompt`` is what it echoes."""
        answers = [Completion.from_chunks(chunks) for chunks in choices]
        usage = shapes.usage_sum([answer.usage for answer in answers if answer.usage])
        values = {
            "id": self._stamp.id,
            "object": "chat.completion",
            "created": int(self._stamp.created),
            "model": self._stamp.model,
            "metadata": {"weight_version": "default"},
            "prompt": list(prompt),
            "choices": [
                self._choice(index, answer, choices[index]) for index, answer in enumerate(answers)
            ],
            "usage": shapes.usage_shape(self._body.usage, usage) if usage else None,
            "warnings": shapes.warnings_shape(
                warning for answer in answers for warning in answer.warnings
            ),
        }
        return shapes.picked(self._body.top, values)

    def _choice(self, index: int, answer: Completion, chunks: Sequence[Chunk]) -> dict[str, object]:
        calls = [
            shapes.call_shape(self._body.call, call, at)
            for at, call in enumerate(answer.tool_calls)
        ]
        message = {
            "role": "assistant",
            "content": answer.text or (self._body.no_content if calls else ""),
            "tool_calls": calls,
            "reasoning": answer.reasoning or None,
        }
        matched = answer.extra.get("stop_reason")
        values = {
            "index": index,
            "message": shapes.picked(self._body.message, message),
            "logprobs": self._logprobs(chunks),
            "finish_reason": shapes.finish_word(
                self._dialect, answer.finish_reason, cut=matched is not None
            ),
            "seed": self._seed,
        }
        return shapes.picked(self._body.choice, values)

    def _logprobs(self, chunks: Sequence[Chunk]) -> dict[str, object] | None:
        tokens = [token for chunk in chunks for token in shapes.told(self._dialect, chunk)]
        if not tokens:
            return None
        if self._body.logprobs == "content":
            return {"content": [_token(self._body.token, token) for token in tokens]}
        top = [dict(token.top) for token in tokens]
        return shapes.lists_shape(self._body.logprobs, tokens, (), top)


def _token(layout: str, token: TokenLogprob) -> dict[str, object]:
    def entry(text: str, logprob: float) -> dict[str, object]:
        encoded = list(text.encode("utf-8", "replace"))
        return {"token": text, "logprob": logprob, "bytes": encoded}

    # An alternative has the keys of a token, but no alternatives of its own.
    inner = layout.replace("top_logprobs", "")
    top = [shapes.picked(inner, entry(*each)) for each in token.top]
    return shapes.picked(layout, {**entry(token.token, token.logprob), "top_logprobs": top})
