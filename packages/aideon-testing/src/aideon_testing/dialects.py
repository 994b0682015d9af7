"""What can differ between one serving engine's chat wire and another's.

Engines differ in which keys they send, in what order, and in how they cut an answer into
frames. A layout names keys in their order, separated by spaces; a key that ends in ``?`` is
left out while there is nothing to say under it, every other one is then ``null``. The
defaults are today's engines; the others are rows in ``aideon_testing.engines``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

_TOP = "id object created choices model usage warnings?"
_CHOICE = "index text logprobs finish_reason delta"
_USAGE = "prompt_tokens total_tokens completion_tokens prompt_tokens_details? reasoning_tokens"


@dataclass(frozen=True, slots=True)
class CallLayout:
    """The keys of a tool call, and those of the function in it."""

    call: str = "id index type function"
    function: str = "name arguments"


@dataclass(frozen=True, slots=True)
class Body:
    """How an engine writes an answer that is not streamed.

    Attributes:
        top: the keys of the body.
        choice: the keys of each choice.
        message: the keys of its message.
        call: the layout of a tool call.
        usage: the keys of the token counts.
        no_content: what stands for the text beside tool calls when there is none.
        logprobs: the keys under ``logprobs``; ``content`` is OpenAI's form, the others are
            parallel lists.
        token: the keys of a token in OpenAI's form.
        indented: whether the JSON is indented.
    """

    top: str = "id object created model metadata prompt choices usage warnings?"
    choice: str = "index message logprobs finish_reason seed"
    message: str = "role content tool_calls reasoning?"
    call: CallLayout = CallLayout()
    usage: str = _USAGE
    no_content: Literal[""] | None = ""
    logprobs: str = "content"
    token: str = "token bytes logprob top_logprobs"  # noqa: S105 - keys, not a secret
    indented: bool = True


@dataclass(frozen=True, slots=True)
class Frame:
    """The keys of one kind of frame, of its choice and of the delta in that.

    ``content`` is what stands under that key while no text is sent.
    """

    top: str = _TOP
    choice: str = _CHOICE
    delta: str = "token_id role content tool_calls? reasoning"
    content: Literal[""] | None = ""


@dataclass(frozen=True, slots=True)
class Calls:
    """How an engine streams tool calls.

    Attributes:
        first: the layout of a call's first piece.
        more: the layout of its other pieces; ``None`` sends each call in one piece.
        whole: whether the arguments come in one piece.
        place: where the calls stand; outside the delta their index is -1.
        opener: a frame sent before the first call.
        frame: the frames of the calls; ``None`` for those of text.
        finishes: whether the last piece carries a finish reason already.
        corrupt: whether the last call is sent again under the next index, its end missing.
    """

    first: CallLayout = CallLayout()
    more: CallLayout | None = CallLayout()
    whole: bool = False
    place: Literal["delta", "choice"] = "delta"
    opener: Frame | None = None
    frame: Frame | None = None
    finishes: bool = False
    corrupt: bool = False


@dataclass(frozen=True, slots=True)
class Stream:
    """How an engine writes a stream.

    Attributes:
        opener: the frame before there is anything to say.
        text: the frames of text and reasoning.
        finish: the frames that end a choice; of two, the second says "stop" after tool calls.
        finish_rides: when the finish reason rides on the last frame with text in it instead:
            never, when max_tokens cut the answer, also when a stop string did, or always.
        calls: how tool calls are sent.
        usage: the keys of the token counts.
        usage_on: where they are sent: a last frame without choices, the finish frame, every
            frame and the last one, or nowhere.
        logprobs: the keys under ``logprobs``; empty for a bare number, with the alternatives
            beside it.
        token_ids: whether ``token_id`` is a number.
        end_token: the token that ended the answer, told as ``matched_stop`` or
            ``stop_reason``.
        thinking: the frames that open inline reasoning, sent even before the opener.
        before_reasoning: stray text that comes before the reasoning.
        split_glyphs: whether an empty frame comes before a character of several tokens.
        engine_ids: whether the engine's own ids show, in place of the response's.
        model_suffix: what the engine adds to the model's name.
    """

    opener: Frame | None = Frame(top="id object created choices model")
    text: Frame = Frame()
    finish: tuple[Frame, ...] = (Frame(),)
    finish_rides: Literal["never", "length", "cut", "always"] = "never"
    calls: Calls = Calls()
    usage: str = _USAGE
    usage_on: Literal["frame", "finish", "every", "none"] = "frame"
    logprobs: str = "tokens token_logprobs token_ids top_logprobs"
    token_ids: bool = False
    end_token: int | None = None
    thinking: Frame | None = None
    before_reasoning: str = ""
    split_glyphs: bool = False
    engine_ids: bool = False
    model_suffix: str = ""


@dataclass(frozen=True, slots=True)
class Dialect:
    """Everything in which one model's answers differ from another's on the wire.

    Attributes:
        body: how an answer is written whole.
        stream: how it is streamed.
        tools_body: how it is written whole when the request has tools, if otherwise.
        tools_stream: how it is streamed then.
        raw_tools: when those two apply: for every request with tools, or only for one that
            forbids to use them.
        reasoning: where thoughts are: in a field of their own, in the text inside
            ``<think>`` tags, or in the text with only the closing tag.
        logprobs_of: which tokens' logprobs are told: those of the text, or also those of the
            reasoning and the one that ends the answer.
        seeds: whether the seed is told: the one asked for, or the engine's own.
        natural_finish: the finish reason of an answer that nothing cut.
        tool_choice: which ones the engine follows: any; only "auto", with a warning for
            others; or none, because it cannot read tool calls.
        strict_schemas: whether a tool schema with ``$schema`` or ``additionalProperties``
            is refused when a call is required.
        media: what becomes of images and the like: read or ignored without a word; refused
            as invalid; refused as no text; refused with the engine's own error as the
            message; or a server error.
        video: the error message for videos, where it differs.
        boolean_logprobs: whether a number under ``logprobs`` is refused.
        serverless: whether the model can be called without an endpoint of one's own.
        short_ids: whether ids are the trace alone, as before 2025-05.
        rate: the model's limit, in requests a second.
        dynamic_limits: whether the limits that follow the account's recent use are told, as
            since 2026-04.
    """

    body: Body = Body()
    stream: Stream = Stream()
    tools_body: Body | None = None
    tools_stream: Stream | None = None
    raw_tools: Literal["given", "forbidden"] = "given"
    reasoning: Literal["field", "inline", "bare"] = "field"
    logprobs_of: Literal["text", "all"] = "text"
    seeds: bool = False
    natural_finish: Literal["stop", "eos"] = "stop"
    tool_choice: Literal["any", "auto", "none"] = "any"
    strict_schemas: bool = False
    media: Literal["taken", "invalid", "refused", "nested", "failed"] = "taken"
    video: str | None = None
    boolean_logprobs: bool = False
    serverless: bool = True
    short_ids: bool = False
    rate: float = 10.0
    dynamic_limits: bool = True
