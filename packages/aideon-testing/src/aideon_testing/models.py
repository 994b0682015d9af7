"""The models the server lists, with the facts ``GET /v1/models`` gives of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aideon_core.types import Json


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """One row of the list.

    ``input``, ``output`` and ``cached_input`` are US dollars per million tokens, as floats
    because the wire has floats, rounding noise and all. ``prices`` holds what is priced by
    something other than tokens. ``reasons`` tells whether a chat model thinks first.
    """

    display_name: str
    organization: str
    context_length: int | None
    input: float = 0
    output: float = 0
    cached_input: float | None = None
    created: int = 0
    type: str = "chat"
    reasons: bool = False
    prices: Mapping[str, Json] = field(default_factory=lambda: MappingProxyType({}))


_LLAMA_RANK = ModelFacts(
    "Salesforce Llama Rank V1 (8B)",
    "salesforce",
    8192,
    0.1,
    0.1,
    created=1723745254,
    type="rerank",
)

_FACTS: dict[str, ModelFacts] = {
    "Qwen/Qwen2.5-7B-Instruct-Turbo": ModelFacts(
        "Qwen2.5 7B Instruct Turbo", "Qwen", 32768, 0.3, 0.3, created=1728671048
    ),
    "Qwen/Qwen3-235B-A22B-Instruct-2507-tput": ModelFacts(
        "Qwen3 235B A22B Instruct 2507 FP8 Throughput",
        "Qwen",
        262144,
        0.2,
        0.6,
        created=1753218184,
    ),
    "deepseek-ai/DeepSeek-V4-Pro": ModelFacts(
        "Deepseek V4 Pro", "Deepseek", 512000, 1.74, 3.48, 0.2, reasons=True
    ),
    "meta-llama/Llama-3.3-70B-Instruct-Turbo": ModelFacts(
        "Meta Llama 3.3 70B Instruct Turbo",
        "Meta",
        131072,
        1.0399999999999998,
        1.0399999999999998,
        created=1733466629,
    ),
    "moonshotai/Kimi-K2-Instruct-0905": ModelFacts(
        "Kimi K2 Instruct 0905", "Moonshot AI", 262144, 1, 3
    ),
    "moonshotai/Kimi-K2.6": ModelFacts("Kimi K2.6 Fp4", "Moonshot AI", 262144, 1.2, 4.5, 0.2),
    "openai/gpt-oss-120b": ModelFacts(
        "OpenAI GPT-OSS 120B", "OpenAI", 131072, 0.15, 0.6, created=1754414557, reasons=True
    ),
    "openai/gpt-oss-20b": ModelFacts(
        "OpenAI GPT-OSS 20B", "OpenAI", 131072, 0.05, 0.2, created=1774480577, reasons=True
    ),
    # Listed, and no chat models: some prices are objects where the others have a number, and
    # the input of a speech model costs by the million characters.
    "meta-llama/Meta-Llama-3.1-8B": ModelFacts(
        "Meta Llama 3.1 8B", "Meta", 16384, 0.2, 0.2, created=1713420479, type="language"
    ),
    "intfloat/multilingual-e5-large-instruct": ModelFacts(
        "Multilingual E5 Large Instruct",
        "Intfloat",
        514,
        0.02,
        0.02,
        created=1745513588,
        type="embedding",
    ),
    "BAAI/bge-base-en-v1.5": ModelFacts(
        "BAAI-Bge-Base-1.5", "BAAI", 512, 0.008, 0.008, created=1749601524, type="embedding"
    ),
    # The list spells it one way, requests and answers another; the API takes both.
    "Salesforce/Llama-Rank-V1": _LLAMA_RANK,
    "Salesforce/Llama-Rank-v1": _LLAMA_RANK,
    "black-forest-labs/FLUX.1-schnell": ModelFacts(
        "FLUX.1 Schnell",
        "Black Forest Labs",
        None,
        created=1778115148,
        type="image",
        prices={"image_pixel": {"price_per_megapixel": 0.0027, "min_steps": 4}},
    ),
    "black-forest-labs/FLUX.2-dev": ModelFacts(
        "FLUX.2 [dev]",
        "Black Forest Labs",
        None,
        created=1764086551,
        type="image",
        prices={
            "image": {"example_price": 0.0154, "example_description": "starting price per image"}
        },
    ),
    "hexgrad/Kokoro-82M": ModelFacts(
        "Kokoro 82M", "Hexgrad", None, 4, created=1773163054, type="audio"
    ),
    "canopylabs/orpheus-3b-0.1-ft": ModelFacts(
        "Orpheus 3B 0.1 FT", "Canopy Labs", None, 15, created=1755731205, type="audio"
    ),
    "cartesia/sonic": ModelFacts(
        "Cartesia Sonic", "Cartesia", 0, 65, created=1773696454, type="audio"
    ),
    "cartesia/sonic-2": ModelFacts(
        "Cartesia Sonic 2", "Cartesia", 448, 65, created=1774464715, type="audio"
    ),
    "cartesia/sonic-3": ModelFacts(
        "Cartesia Sonic 3", "Cartesia", 448, 65, created=1774464715, type="audio"
    ),
    "openai/whisper-large-v3": ModelFacts(
        "Whisper large-v3",
        "OpenAI",
        1,
        0.27,
        0.85,
        type="transcribe",
        prices={"transcribe": {"price_per_minute": 0.0015}},
    ),
}

DEFAULT_MODELS = tuple(_FACTS)
"""The ids a server lists unless told otherwise: chat models first, then one or more of each
other kind."""


def is_own(model: str) -> bool:
    """Whether the model is none of Together's, but on a dedicated endpoint of the caller's."""
    return model not in _FACTS


def is_a(model: str, *types: str) -> bool:
    """Whether the model is of one of the types; one of the caller's own is of every type."""
    return is_own(model) or _FACTS[model].type in types


def is_chat(model: str) -> bool:
    """Whether the model answers chat requests."""
    return is_a(model, "chat")


def facts_of(model: str) -> ModelFacts:
    """What is known of a model; one of the caller's own costs nothing."""
    organization, _, name = model.rpartition("/")
    return _FACTS.get(model) or ModelFacts(name, organization, 32768)


def model_row(model: str) -> dict[str, object]:
    """The model's row as ``GET /v1/models`` sends it."""
    facts = facts_of(model)
    row: dict[str, object] = {
        "id": model,
        "object": "model",
        "created": facts.created,
        "type": facts.type,
        "running": False,
        "display_name": facts.display_name,
        "organization": facts.organization,
        "link": f"https://huggingface.co/{model}",
    }
    if facts.context_length is not None:
        row["context_length"] = facts.context_length
    row["config"] = {"chat_template": None, "stop": [], "bos_token": None, "eos_token": None}
    row["pricing"] = _pricing(facts)
    return row


def _pricing(facts: ModelFacts) -> dict[str, object]:
    pricing: dict[str, object] = {
        "hourly": 0,
        "input": facts.input,
        "output": facts.output,
        "base": 0,
        "finetune": 0,
    }
    if facts.cached_input is not None:
        pricing["cached_input"] = facts.cached_input
    units = ("image_pixel", "transcribe", "image", "video")
    return pricing | {unit: facts.prices.get(unit, 0) for unit in units}
