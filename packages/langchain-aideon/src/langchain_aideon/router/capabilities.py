"""What can be known of somebody's chat model: its name, what it can do, what it costs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from langchain_core.language_models import BaseChatModel
from langchain_core.runnables.base import RunnableBindingBase
from langchain_core.runnables.configurable import DynamicRunnable
from langchain_core.runnables.fallbacks import RunnableWithFallbacks

from aideon_core.backends.hosts import HOSTS
from aideon_core.errors import ConfigError
from aideon_core.types import ModelFacts

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from langchain_core.runnables import Runnable

    from aideon_core.routing import Ability
    from aideon_core.types import Side

# Names of LangChain's integrations that the price data spells in another way.
_PRICED_AS: Final[Mapping[str, str]] = {
    "mistralai": "mistral",
    "google_genai": "google",
    "google_vertexai": "google",
    "xai": "x-ai",
    "bedrock": "aws",
}
_ADDRESSES: Final = ("openai_api_base", "together_api_base", "base_url")
_CONTEXTS: Final = ("n_ctx", "num_ctx")
_MEDIA: Final = ("image_inputs", "image_url_inputs", "pdf_inputs", "audio_inputs", "video_inputs")
# Followed in a call by every class that has a field of the name.
_BY_FIELD: Final[tuple[Ability, ...]] = ("logprobs", "logit_bias")


def wrapped(model: Runnable[Any, Any]) -> tuple[BaseChatModel | None, dict[str, Any]]:
    """The chat model inside bindings, retries and fallbacks, and what is bound to it."""
    bound: dict[str, Any] = {}
    while not isinstance(model, BaseChatModel):
        if isinstance(model, RunnableBindingBase):
            bound = {**model.kwargs, **bound}
            model = model.bound
        elif isinstance(model, RunnableWithFallbacks):
            model = model.runnable
        elif isinstance(model, DynamicRunnable):
            model = model.default
        else:
            return None, bound
    return model, bound


def with_tools(
    model: Runnable[Any, Any], tools: Sequence[Any], **choice: object
) -> Runnable[Any, Any]:
    """The model with tools on offer, inside all that is wrapped around it."""
    if isinstance(model, RunnableBindingBase):
        return model.model_copy(update={"bound": with_tools(model.bound, tools, **choice)})
    offered: Runnable[Any, Any] = model.bind_tools(list(tools), **choice)  # type: ignore[attr-defined]
    return offered


def names(model: Runnable[Any, Any]) -> tuple[str, str]:
    """The provider and the model, as its own class calls them."""
    chat, bound = wrapped(model)
    if chat is None:
        return model.get_name(), model.get_name()
    told = chat._get_ls_params(**bound)  # noqa: SLF001 - where LangChain has them
    provider = told.get("ls_provider") or type(chat).__name__.lower()
    named = told.get("ls_model_name") or getattr(chat, "model_path", None)
    return provider, named or type(chat).__name__


def identity(model: Runnable[Any, Any]) -> str:
    """What tells a model from one with other settings, as its own class tells it."""
    chat, bound = wrapped(model)
    if chat is None or isinstance(model, RunnableWithFallbacks | DynamicRunnable):
        # Nobody tells what is in it; it is itself alone.
        return f"{model.get_name()}@{id(model)}"
    return chat._get_llm_string(**bound)  # noqa: SLF001 - where LangChain has it


def abilities(model: Runnable[Any, Any], side: Side) -> frozenset[Ability]:
    """What a model can do: by its profile, else by its class.

    Media are taken for granted of a cloud model that does not say, and of a local one are not.
    """
    chat, _ = wrapped(model)
    if chat is None:
        return frozenset()
    profile: Mapping[str, Any] = chat.profile or {}
    found: set[Ability] = set()
    calls = type(chat).bind_tools is not BaseChatModel.bind_tools
    if calls and profile.get("tool_calling") is not False:
        found.add("tools")
    if profile.get("structured_output", speaks_openai(chat)):
        found.add("json")
    reads = [profile[name] for name in _MEDIA if profile.get(name) is not None]
    if any(reads) or (side == "cloud" and not reads):
        found.add("media")
    return frozenset(found.union(name for name in _BY_FIELD if name in type(chat).model_fields))


def declared(abilities: Iterable[Ability]) -> frozenset[Ability]:
    """What the caller says that a model can do.

    Raises:
        ConfigError: it is said to go on from a beginning, which LangChain has no word for.
    """
    found = frozenset(abilities)
    if "prefix" in found:
        raise ConfigError(
            "A LangChain model cannot go on from a given beginning: it would begin anew.",
            hint='Leave "prefix" out of abilities=; a LlamaCppBackend has it.',
        )
    return found


def facts(model: Runnable[Any, Any]) -> ModelFacts:
    """What its profile tells, and the context that it was made with."""
    chat, _ = wrapped(model)
    if chat is None:
        return ModelFacts()
    profile: Mapping[str, Any] = chat.profile or {}
    made_with = (getattr(chat, name, None) for name in _CONTEXTS)
    context = next((size for size in made_with if isinstance(size, int) and size > 0), None)
    return ModelFacts(
        context_tokens=context or profile.get("max_input_tokens"),
        output_tokens=profile.get("max_output_tokens"),
        media=profile.get("image_inputs"),
        reasoning=profile.get("reasoning_output"),
    )


def price_list(model: Runnable[Any, Any]) -> str | None:
    """Whose prices a cloud model has, None where its address is not its provider's."""
    chat, _ = wrapped(model)
    if chat is None:
        return None
    provider, _ = names(model)
    address = next((found for name in _ADDRESSES if (found := getattr(chat, name, None))), None)
    if provider == "openai" and isinstance(address, str):
        # One class speaks to every server of the kind.
        return _host_prices(address)
    return _PRICED_AS.get(provider, provider)


def speaks_openai(chat: BaseChatModel | None) -> bool:
    """Whether it is a client of OpenAI's API, Together's own included."""
    return any(kind.__name__ == "BaseChatOpenAI" for kind in type(chat).__mro__)


def _host_prices(address: str) -> str | None:
    asked = urlsplit(address).hostname
    if asked == "api.openai.com":
        return "openai"
    known = (host for host in HOSTS.values() if urlsplit(host.base_url).hostname == asked)
    return next((host.prices for host in known), None)
