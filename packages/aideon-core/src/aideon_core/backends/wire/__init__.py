"""The OpenAI-style chat format as Together and others speak it: pure functions, both ways."""

from __future__ import annotations

from aideon_core.backends.wire.answers import FrameReader, completion_of
from aideon_core.backends.wire.calls import calls_are_whole, streams_corrupt_calls
from aideon_core.backends.wire.facts import usage_of
from aideon_core.backends.wire.failures import error_text, failure_of, interval_of, pause_of
from aideon_core.backends.wire.request import (
    LLAMA_CPP,
    OPENAI,
    TOGETHER,
    VLLM,
    RequestDialect,
    chat_body,
)
from aideon_core.backends.wire.several import AnswersReader
from aideon_core.backends.wire.values import parsed, rows_of

__all__ = [
    "LLAMA_CPP",
    "OPENAI",
    "TOGETHER",
    "VLLM",
    "AnswersReader",
    "FrameReader",
    "RequestDialect",
    "calls_are_whole",
    "chat_body",
    "completion_of",
    "error_text",
    "failure_of",
    "interval_of",
    "parsed",
    "pause_of",
    "rows_of",
    "streams_corrupt_calls",
    "usage_of",
]
