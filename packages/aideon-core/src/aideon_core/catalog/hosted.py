"""What is known of the chat models that Together AI serves to everybody, by their ids.

Figures of models.dev and of Together's own ``/v1/models`` as they stood in August 2026. A model
that is not here may be served all the same; nothing is known of it then.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from aideon_core.types import ModelFacts

if TYPE_CHECKING:
    from collections.abc import Mapping

TOGETHER: Final[Mapping[str, ModelFacts]] = MappingProxyType(
    {
        "deepcogito/cogito-v2-1-671b": ModelFacts(163_840, 163_840, media=False, reasoning=True),
        "deepseek-ai/DeepSeek-R1": ModelFacts(163_840, 163_839, media=False, reasoning=True),
        "deepseek-ai/DeepSeek-V3": ModelFacts(131_072, 131_072, media=False, reasoning=False),
        "deepseek-ai/DeepSeek-V3.1": ModelFacts(131_072, 131_072, media=False, reasoning=True),
        "deepseek-ai/DeepSeek-V4-Pro": ModelFacts(512_000, 384_000, media=False, reasoning=True),
        "essentialai/Rnj-1-Instruct": ModelFacts(32_768, 32_768, media=False, reasoning=False),
        "google/gemma-3n-E4B-it": ModelFacts(32_768, 32_768, media=False, reasoning=False),
        "google/gemma-4-31B-it": ModelFacts(262_144, 131_072, media=True, reasoning=True),
        "LiquidAI/LFM2-24B-A2B": ModelFacts(32_768, 32_768, media=False, reasoning=False),
        "meta-llama/Llama-3.3-70B-Instruct-Turbo": ModelFacts(
            131_072, 131_072, media=False, reasoning=False
        ),
        "meta-llama/Meta-Llama-3-8B-Instruct-Lite": ModelFacts(
            8_192, 8_192, media=False, reasoning=False
        ),
        "MiniMaxAI/MiniMax-M2.5": ModelFacts(196_608, 131_072, media=False, reasoning=True),
        "MiniMaxAI/MiniMax-M2.7": ModelFacts(196_608, 131_072, media=False, reasoning=True),
        "MiniMaxAI/MiniMax-M3": ModelFacts(524_288, 250_000, media=True, reasoning=True),
        "moonshotai/Kimi-K2.5": ModelFacts(262_144, 262_144, media=True, reasoning=True),
        "moonshotai/Kimi-K2.6": ModelFacts(262_144, 131_000, media=True, reasoning=True),
        "moonshotai/Kimi-K2.7-Code": ModelFacts(262_144, 131_072, media=False, reasoning=True),
        "nvidia/nemotron-3-ultra-550b-a55b": ModelFacts(
            512_288, 512_288, media=False, reasoning=True
        ),
        "openai/gpt-oss-120b": ModelFacts(131_072, 131_072, media=False, reasoning=True),
        "openai/gpt-oss-20b": ModelFacts(131_072, 131_072, media=False, reasoning=True),
        "pearl-ai/gemma-4-31b-it": ModelFacts(262_144, 32_000, media=False, reasoning=True),
        "Qwen/Qwen2.5-7B-Instruct-Turbo": ModelFacts(32_768, 32_768, media=False, reasoning=False),
        "Qwen/Qwen3-235B-A22B-Instruct-2507-tput": ModelFacts(
            262_144, 262_144, media=False, reasoning=False
        ),
        "Qwen/Qwen3-Coder-480B-A35B-Instruct-FP8": ModelFacts(
            262_144, 262_144, media=False, reasoning=False
        ),
        "Qwen/Qwen3-Coder-Next-FP8": ModelFacts(262_144, 262_144, media=False, reasoning=False),
        "Qwen/Qwen3.5-397B-A17B": ModelFacts(262_144, 130_000, media=True, reasoning=True),
        "Qwen/Qwen3.5-9B": ModelFacts(262_144, 65_536, media=True, reasoning=True),
        "Qwen/Qwen3.6-Plus": ModelFacts(1_000_000, 500_000, media=False, reasoning=True),
        "Qwen/Qwen3.7-Max": ModelFacts(1_000_000, 500_000, media=False, reasoning=False),
        "zai-org/GLM-5": ModelFacts(202_752, 131_072, media=False, reasoning=True),
        "zai-org/GLM-5.1": ModelFacts(202_752, 131_072, media=False, reasoning=True),
        "zai-org/GLM-5.2": ModelFacts(512_000, 164_000, media=False, reasoning=True),
    }
)
