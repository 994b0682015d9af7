"""Which serving engine writes which model's answers: rows of data, measured over real traffic."""

from __future__ import annotations

from dataclasses import replace
from fnmatch import fnmatchcase

from aideon_testing.dialects import Body, CallLayout, Calls, Dialect, Frame, Stream

_NO_USAGE = "id object created choices model"
_CHOICE = "index text logprobs finish_reason delta"
_BODY = "id object created model prompt choices usage warnings?"
_TOKENS = "prompt_tokens total_tokens completion_tokens"
_OLD_TOKENS = "prompt_tokens completion_tokens total_tokens"
_LISTS = "tokens token_logprobs token_ids"
_ARRAYS = "tokens token_logprobs top_logprobs"
_EARLY_DELTA = "token_id role content tool_calls reasoning?"

# Tool calls, the four ways and the broken one.

FRAGMENTS = Calls()
"""Pieces of arguments, each with id and name as explicit nulls: today's engines."""

WITHOUT_IDS = Calls(
    first=CallLayout("id type index function"),
    more=CallLayout("index function", "name arguments"),
)
"""Pieces of arguments that say little about their call: vLLM."""

_OPENAI_FRAME = Frame(
    "id object created model choices", "index delta logprobs finish_reason", "tool_calls reasoning?"
)
_NAME_THEN_ARGUMENTS = Calls(
    first=CallLayout("index id type function"),
    more=CallLayout("index function", "arguments"),
    whole=True,
)
OPENAI_ORDER = replace(
    _NAME_THEN_ARGUMENTS,
    opener=replace(_OPENAI_FRAME, delta="role content reasoning?", content=None),
    frame=_OPENAI_FRAME,
)
"""Whole arguments in frames in OpenAI's order: Llama and Qwen2.5 of 2025."""

_RAW_DELTA = "token_id role content tool_calls? reasoning?"
DOUBLE_FINISH = replace(
    _NAME_THEN_ARGUMENTS,
    opener=Frame(_NO_USAGE, "index role text logprobs finish_reason delta", _RAW_DELTA),
    frame=Frame(_NO_USAGE, _CHOICE, _RAW_DELTA),
    finishes=True,
)
"""Whole arguments that finish at once, before the finish frames: vLLM's Qwen3 of 2025-12."""

CHOICE_LEVEL = Calls(more=None, whole=True, place="choice")
"""Whole calls beside the delta, with index -1: Qwen3-Coder."""

CORRUPT = replace(FRAGMENTS, corrupt=True)
"""The last call twice, the second time cut short: DeepSeek-V4-Pro."""


# Engines, from today's back to those of 2024.

TODAY = Dialect()
"""SGLang of 2026, and what a model speaks that nothing is known about."""

DEEPSEEK_V4 = replace(TODAY, stream=replace(TODAY.stream, calls=CORRUPT))

_RAW_BODY = Body(
    choice="index logprobs finish_reason seed message",
    message="role content tool_calls reasoning?",
    call=CallLayout("index id type function", "arguments name"),
    usage=_TOKENS,
    no_content=None,
)
_RAW_FINISHES = (
    Frame(choice="index text logprobs finish_reason matched_stop delta", delta=_RAW_DELTA),
    Frame(choice="index text finish_reason delta", delta=_RAW_DELTA),
)
_RAW_STREAM = Stream(
    opener=None,
    text=_RAW_FINISHES[0],
    finish=_RAW_FINISHES,
    calls=DOUBLE_FINISH,
    usage=f"{_TOKENS} reasoning_tokens",
    usage_on="finish",
    logprobs=_ARRAYS,
    end_token=151645,
)

GPT_OSS = replace(
    TODAY,
    raw_tools="forbidden",
    tools_body=replace(_RAW_BODY, usage=f"{_TOKENS} reasoning_tokens"),
    tools_stream=replace(_RAW_STREAM, end_token=200002),
)

SGLANG_2025 = Dialect(
    body=Body(message="role content tool_calls reasoning", usage=_TOKENS),
    stream=Stream(
        opener=Frame(),
        usage=f"{_TOKENS} prompt_tokens_details reasoning_tokens",
        logprobs=_ARRAYS,
    ),
    media="refused",
    dynamic_limits=False,
)
"""SGLang of 2025-12: Kimi, Ministral and the Qwen3 family."""

GLM = replace(SGLANG_2025, stream=replace(SGLANG_2025.stream, before_reasoning="\n"))

QWEN3 = replace(SGLANG_2025, tools_body=_RAW_BODY, tools_stream=_RAW_STREAM)
QWEN3_INLINE = replace(QWEN3, reasoning="inline")
QWEN3_BARE = replace(QWEN3, reasoning="bare")
QWEN3_VL = replace(
    QWEN3, tools_stream=replace(_RAW_STREAM, finish=_RAW_FINISHES[1:]), media="taken"
)
_THINK = Frame(
    choice="index text logprobs finish_reason seed delta", delta="token_id role content reasoning?"
)
QWEN3_NEXT_THINKING = replace(
    QWEN3_INLINE,
    stream=replace(QWEN3.stream, thinking=_THINK),
    tools_stream=replace(_RAW_STREAM, thinking=_THINK),
)

_TWICE = Frame(
    choice="index text logprobs tool_calls finish_reason delta",
    delta="token_id role content tool_calls reasoning",
)
SGLANG_2025_09 = Dialect(
    body=replace(SGLANG_2025.body, logprobs=_LISTS),
    stream=replace(
        SGLANG_2025.stream, opener=_TWICE, text=_TWICE, finish=(_TWICE,), calls=CHOICE_LEVEL
    ),
    tools_body=_RAW_BODY,
    media="refused",
    dynamic_limits=False,
)
"""SGLang of 2025-09, which has tool calls in two places."""

QWEN3_CODER = replace(
    SGLANG_2025_09,
    body=replace(SGLANG_2025_09.body, top=_BODY),
    stream=replace(SGLANG_2025_09.stream, usage=f"{_TOKENS} prompt_tokens_details"),
    tools_body=None,
    tool_choice="auto",
)
GPT_OSS_2025 = replace(SGLANG_2025_09, tools_stream=GPT_OSS.tools_stream, media="taken")

_VLLM_BODY = Body(
    top="id object created model service_tier system_fingerprint kv_transfer_params "
    "prompt choices usage warnings?",
    message="role content tool_calls reasoning",
    call=CallLayout("id type function"),
    usage=_TOKENS,
    token="token logprob bytes top_logprobs",  # noqa: S106 - keys, not a secret
)
_VLLM_FRAME = Frame(delta="token_id role content tool_calls? reasoning?")
VLLM = Dialect(
    body=_VLLM_BODY,
    stream=Stream(
        opener=_VLLM_FRAME,
        text=_VLLM_FRAME,
        finish=(_VLLM_FRAME,),
        finish_rides="cut",
        calls=WITHOUT_IDS,
        usage=_TOKENS,
        logprobs=_ARRAYS,
    ),
    logprobs_of="all",
    media="refused",
    dynamic_limits=False,
)
"""vLLM of 2025-12, whose own keys show in the body: Apriel."""

RNJ = replace(
    VLLM,
    body=replace(
        _VLLM_BODY,
        top=_VLLM_BODY.top.replace("kv_", "prompt_token_ids kv_"),
        choice="index message logprobs finish_reason token_ids seed",
    ),
)
TRINITY = replace(RNJ, stream=replace(VLLM.stream, opener=Frame(), text=Frame(), finish=(Frame(),)))

_GEMMA = Frame(
    "id object created choices model", "index delta logprobs finish_reason", _EARLY_DELTA
)
GEMMA = Dialect(
    body=Body(
        top=_BODY,
        choice="logprobs index seed message",
        message="role content tool_calls reasoning?",
        usage=f"{_TOKENS} prompt_tokens_details",
    ),
    stream=Stream(
        opener=None,
        text=_GEMMA,
        finish=(replace(_GEMMA, choice=f"{_GEMMA.choice} stop_reason"),),
        finish_rides="always",
        usage_on="none",
        logprobs=_ARRAYS,
        end_token=106,
        engine_ids=True,
    ),
    tool_choice="none",
    strict_schemas=True,
    video="Unknown video model type: gemma3",
    boolean_logprobs=True,
    dynamic_limits=False,
)
"""vLLM of 2025-09: no usage in streams, no finish reason in whole answers: gemma-3."""

_EARLY = Frame(choice=_TWICE.choice, delta=_EARLY_DELTA)
_EARLY_RAW = Frame(choice="index text logprobs finish_reason stop_reason delta", delta=_EARLY_DELTA)
_EARLY_RAW_STREAM = Stream(
    opener=None,
    text=_EARLY_RAW,
    finish=(_EARLY_RAW,),
    calls=FRAGMENTS,
    usage=_TOKENS,
    logprobs=_ARRAYS,
)
SGLANG_EARLY = Dialect(
    body=Body(
        top=_BODY, message="role content tool_calls reasoning?", usage=_TOKENS, logprobs=_LISTS
    ),
    stream=Stream(
        opener=_EARLY,
        text=_EARLY,
        finish=(_EARLY,),
        finish_rides="cut",
        calls=CHOICE_LEVEL,
        usage=_TOKENS,
        logprobs=_ARRAYS,
    ),
    tools_body=replace(_RAW_BODY, top=_BODY),
    tools_stream=_EARLY_RAW_STREAM,
    logprobs_of="all",
    tool_choice="auto",
    media="refused",
    dynamic_limits=False,
)
"""SGLang of 2025-05 to 2025-08: Mistral-Small, the first Kimi-K2."""

DEEPSEEK_V3 = replace(
    SGLANG_2025_09, tools_stream=replace(_EARLY_RAW_STREAM, usage=SGLANG_2025_09.stream.usage)
)
LLAMA_VISION = replace(
    SGLANG_EARLY,
    tools_stream=replace(_EARLY_RAW_STREAM, usage_on="every"),
    media="taken",
    rate=1 / 6,
)
LLAMA_4 = replace(
    SGLANG_2025_09,
    stream=replace(SGLANG_2025_09.stream, calls=OPENAI_ORDER),
    tools_body=None,
    media="taken",
)

_OLD = Frame(
    choice="index text logprobs finish_reason seed top_logprobs? delta", delta=_EARLY_DELTA
)
_OLD_USAGE = f"{_OLD_TOKENS} cached_tokens"
TOGETHER_2025 = Dialect(
    body=Body(
        top=_BODY,
        choice="finish_reason seed logprobs index message",
        message="role content tool_calls reasoning?",
        call=CallLayout("index id type function", "arguments name"),
        usage=_OLD_USAGE,
        no_content=None,
        logprobs="token_ids tokens token_logprobs top_logprobs",
    ),
    stream=Stream(
        opener=None,
        text=_OLD,
        finish=(_OLD,),
        finish_rides="length",
        calls=OPENAI_ORDER,
        usage=_OLD_USAGE,
        usage_on="finish",
        logprobs="",
        token_ids=True,
        split_glyphs=True,
    ),
    logprobs_of="all",
    seeds=True,
    tool_choice="auto",
    media="refused",
    rate=1.0,
    dynamic_limits=False,
)
"""Together's own engine of 2025: Llama and Qwen2.5 under the name Turbo."""

CACHED = replace(TOGETHER_2025, stream=replace(TOGETHER_2025.stream, model_suffix="-cached"))
"""The same, when its cache let its own name for the model show."""

_OLD_PLAIN = replace(_OLD, delta="token_id role content reasoning?")
MISTRAL_7B = replace(
    TOGETHER_2025,
    body=replace(TOGETHER_2025.body, choice="finish_reason seed index logprobs message"),
    stream=replace(TOGETHER_2025.stream, text=_OLD_PLAIN, finish=(_OLD_PLAIN,)),
    rate=10.0,
)
DEEPSEEK_R1 = replace(MISTRAL_7B, reasoning="inline", tool_choice="any")

TOGETHER_2025_02 = replace(
    TOGETHER_2025,
    body=replace(TOGETHER_2025.body, usage=_OLD_TOKENS),
    stream=replace(TOGETHER_2025.stream, usage=_OLD_TOKENS),
    natural_finish="eos",
    short_ids=True,
    rate=100.0,
)
"""The same engine at the beginning of 2025."""

TOGETHER_2025_01 = replace(TOGETHER_2025_02, body=replace(TOGETHER_2025_02.body, indented=False))
"""The same, before bodies were indented."""

TOGETHER_2024 = replace(
    TOGETHER_2025_01,
    body=replace(
        TOGETHER_2025_01.body,
        choice="finish_reason logprobs index message",
        message="role content tool_calls? reasoning?",
    ),
    rate=2.0,
)
"""The same engine in 2024: Mixtral."""

DEDICATED = Dialect(serverless=False)
"""A model that answers nobody without an endpoint of their own."""

_ENGINES: tuple[tuple[str, Dialect], ...] = (
    ("openai/gpt-oss-*", GPT_OSS),
    ("deepseek-ai/DeepSeek-V4-*", DEEPSEEK_V4),
    ("deepseek-ai/DeepSeek-V3*", DEEPSEEK_V3),
    ("deepseek-ai/DeepSeek-R1*", DEEPSEEK_R1),
    ("deepcogito/cogito-*", replace(SGLANG_2025, tool_choice="none")),
    ("zai-org/GLM-4*", GLM),
    ("moonshotai/Kimi-K2-Instruct", SGLANG_EARLY),
    ("moonshotai/Kimi-K2-*", replace(SGLANG_2025, media="taken")),
    ("Qwen/Qwen3.5-*", TODAY),
    ("Qwen/Qwen3-Coder-*", QWEN3_CODER),
    ("Qwen/Qwen3-Next-*-Thinking", QWEN3_NEXT_THINKING),
    ("Qwen/Qwen3-Next-*", SGLANG_2025),
    ("Qwen/Qwen3-VL-*", QWEN3_VL),
    ("Qwen/Qwen3-*-Thinking-*", QWEN3_BARE),
    ("Qwen/Qwen3-*-fp8-tput", QWEN3_INLINE),
    ("Qwen/Qwen3-*", replace(QWEN3, media="invalid")),
    ("Qwen/Qwen2.5-*-Turbo", TOGETHER_2025),
    ("Qwen/Qwen2.5-14B-Instruct", DEDICATED),
    ("nvidia/*Nemotron-Nano-*", QWEN3),
    ("ServiceNow-AI/Apriel-*", VLLM),
    ("essentialai/rnj-*", RNJ),
    ("arcee-ai/trinity-*", TRINITY),
    ("google/gemma-3-*", GEMMA),
    ("mistralai/Ministral-*", replace(SGLANG_2025, media="taken")),
    ("mistralai/Mistral-Small-*", replace(SGLANG_EARLY, rate=1.0)),
    ("mistralai/Mistral-7B-*", MISTRAL_7B),
    ("mistralai/Mixtral-*", TOGETHER_2024),
    ("meta-llama/Llama-Vision-Free", LLAMA_VISION),
    ("meta-llama/Llama-4-*", LLAMA_4),
    ("meta-llama/Meta-Llama-3*-Turbo", TOGETHER_2025_02),
    ("meta-llama/Llama-3*", TOGETHER_2025),
)


def dialect_of(model: str) -> Dialect:
    """What the model spoke when it was last seen; today's engines for any other model."""
    return next((spoken for name, spoken in _ENGINES if fnmatchcase(model, name)), TODAY)
