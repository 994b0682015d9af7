"""``POST /v1/completions``: text that goes on where the prompt ends."""

from __future__ import annotations

from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from aideon_testing import responses, wire
from aideon_testing.answers import one_choice
from aideon_testing.endpoints.bodies import Body
from aideon_testing.endpoints.chat_request import check_context
from aideon_testing.endpoints.sampling import MOST_LOGPROBS, Sampling
from aideon_testing.endpoints.streams import begin, by_turns
from aideon_testing.faults import BrokenOff, Failure
from aideon_testing.routes import Route
from aideon_testing.wire.shapes import made_up_seed, token_number, usage_sum

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Collection, Iterable, Mapping, Sequence

    from aideon_core.types import Chunk, Json, TokenLogprob, Usage
    from aideon_testing.answers import Answerer
    from aideon_testing.connection import HttpResponse
    from aideon_testing.routes import Call
    from aideon_testing.wire import Stamp

_END: Final = {"id": 0, "text": "", "logprob": 0, "special": True}


@dataclass(frozen=True, slots=True)
class _Asked:
    """What a request asks for, apart from what the answerer is told."""

    prompt: str
    sampling: Sampling

    @classmethod
    def read(cls, body: Body) -> _Asked:
        """Check every parameter of a request."""
        body.integer("logprobs", 0, MOST_LOGPROBS)
        return cls(prompt=body.prompt("prompt"), sampling=Sampling.read(body))

    def seed_of(self, stamp: Stamp, index: int) -> int:
        """The seed given, or one made up for the choice."""
        if self.sampling.seed is not None:
            return self.sampling.seed
        return made_up_seed(f"{stamp.id} {index}")


@dataclass(slots=True)
class _Choice:
    """What has been said of one choice; thoughts and tool calls are no part of the text."""

    texts: list[str] = field(default_factory=list)
    logprobs: list[TokenLogprob] = field(default_factory=list)
    finish_reason: str | None = None
    usage: Usage | None = None

    def add(self, chunk: Chunk) -> None:
        """Go on with a chunk."""
        if chunk.text:
            self.texts.append(chunk.text)
            self.logprobs.extend(chunk.logprobs)
        self.finish_reason = self.finish_reason or chunk.finish_reason
        self.usage = chunk.usage or self.usage


class Completions:
    """Text completions, whole and streamed.

    Args:
        answers: says what is answered; the prompt comes to it as a conversation's only message.
        models: the ids served.
    """

    def __init__(self, answers: Answerer, models: Collection[str]) -> None:
        self._answers = answers
        self._models = models

    def routes(self) -> Sequence[Route]:
        """The routes of this endpoint."""
        return (Route("POST", "/v1/completions", self._create),)

    async def _create(self, call: Call) -> HttpResponse:
        values = call.json()
        body = Body(values)
        model = body.model(self._models, "chat", "language", "code")
        asked = _Asked.read(body)
        conversation = _conversation(values, asked.prompt)
        check_context(conversation)
        stamp = replace(call.stamp, model=model)
        answers = [
            self._answers.answer(one_choice(conversation, at))
            for at in range(asked.sampling.choices)
        ]
        if not asked.sampling.stream:
            return await _whole(stamp, asked, answers)
        first = await begin(answers)
        return responses.streamed(stamp, _frames(stamp, asked, first, answers))


def _conversation(values: Json, prompt: str) -> Json:
    own = {"prompt", "echo"}
    rest = {name: value for name, value in values.items() if name not in own}
    return rest | {"messages": [{"role": "user", "content": prompt}]}


async def _whole(
    stamp: Stamp, asked: _Asked, answers: Sequence[AsyncGenerator[Chunk, None]]
) -> HttpResponse:
    choices: list[_Choice] = []
    broken = False
    for answer in answers:
        choices.append(_Choice())
        try:
            async with aclosing(answer):
                async for chunk in answer:
                    choices[-1].add(chunk)
        except BrokenOff:
            broken = True
    rows = [
        {
            "text": "".join(choice.texts),
            "finish_reason": choice.finish_reason,
            "seed": asked.seed_of(stamp, index),
            "logprobs": _logprobs(choice.logprobs),
            "index": index,
        }
        for index, choice in enumerate(choices)
    ]
    body = {
        "id": stamp.id,
        "object": "text.completion",
        "created": int(stamp.created),
        "model": stamp.model,
        "prompt": [{"text": asked.prompt}] if asked.sampling.echo else [],
        "choices": rows,
        "usage": _usage(choices),
    }
    return responses.answered(stamp, body, broken=broken)


async def _frames(
    stamp: Stamp,
    asked: _Asked,
    first: Iterable[Chunk],
    answers: Sequence[AsyncGenerator[Chunk, None]],
) -> AsyncGenerator[bytes, None]:
    choices = [_Choice() for _ in answers]
    async with AsyncExitStack() as until_sent:
        for answer in answers:
            await until_sent.enter_async_context(aclosing(answer))
        for index, chunk in enumerate(first):
            choices[index].add(chunk)
            if chunk.text:
                yield _frame(stamp, asked, index, _token(chunk))
        try:
            async for index, chunk in by_turns(answers):
                choices[index].add(chunk)
                if chunk.text:
                    yield _frame(stamp, asked, index, _token(chunk))
        except Failure:
            for choice in choices:
                choice.finish_reason = choice.finish_reason or "error"
        for index, choice in enumerate(choices):
            # The usage of all comes with the end of the last.
            usage = _usage(choices) if index == len(choices) - 1 else None
            last = {"usage": usage, "finish_reason": choice.finish_reason}
            yield _frame(stamp, asked, index, _END, last)
    yield wire.DONE


def _frame(
    stamp: Stamp,
    asked: _Asked,
    index: int,
    token: Mapping[str, object],
    last: Mapping[str, object] = MappingProxyType({}),
) -> bytes:
    delta = {"token_id": token["id"], "role": "assistant", "content": token["text"]}
    frame = {
        "id": stamp.id,
        "object": "completion.chunk",
        "created": int(stamp.created),
        "token": token,
        "choices": [{"index": index, "text": token["text"], "delta": delta}],
        "seed": asked.seed_of(stamp, index),
        "usage": None,
        "finish_reason": None,
    }
    return b"data: " + wire.compact({**frame, **last}) + b"\n\n"


def _token(chunk: Chunk) -> dict[str, object]:
    # An id and a logprob are always sent; where nobody measured, the logprob is 0.
    logprob = sum(token.logprob for token in chunk.logprobs)
    return {
        "id": token_number(chunk.text),
        "text": chunk.text,
        "logprob": logprob,
        "special": False,
    }


def _logprobs(tokens: Sequence[TokenLogprob]) -> dict[str, object] | None:
    if not tokens:
        return None
    return {
        "token_ids": [],
        "tokens": [token.token for token in tokens],
        "token_logprobs": [token.logprob for token in tokens],
        "top_logprobs": [dict(token.top) for token in tokens],
    }


def _usage(choices: Sequence[_Choice]) -> dict[str, int] | None:
    total = usage_sum([choice.usage for choice in choices if choice.usage is not None])
    if total is None:
        return None
    return {
        "prompt_tokens": total.input_tokens,
        "completion_tokens": total.output_tokens,
        "total_tokens": total.total_tokens,
    }
