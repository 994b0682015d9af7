"""``AideonCache``: LangChain's cache, kept where the client's answers are kept."""

# ruff: noqa: ANN401 - LangChain's signatures say Any

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from langchain_core.caches import BaseCache
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
    ChatMessage,
    HumanMessage,
    SystemMessage,
)
from langchain_core.outputs import (
    ChatGeneration,
    ChatGenerationChunk,
    Generation,
    GenerationChunk,
)
from pydantic import BaseModel

from aideon_core.cache import Cache
from aideon_core.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from os import PathLike

    from aideon_core.cache import Store

_KIND: Final = "langchain"
# What is read from a file is made into these and nothing else.
_GENERATIONS: Final = {
    kind.__name__: kind
    for kind in (Generation, GenerationChunk, ChatGeneration, ChatGenerationChunk)
}
_MESSAGES: Final = {
    kind.__name__: kind
    for kind in (AIMessage, AIMessageChunk, HumanMessage, SystemMessage, ChatMessage)
}


class AideonCache(BaseCache):
    """Answers for equal calls of any LangChain model, in one file for all processes.

    LangChain asks its cache in ``invoke``, ``batch`` and ``generate``, and never in
    ``stream``; ``ChatAideon(client=Client(cache=...))`` keeps streams too. A store that fails
    costs no answer: LangChain then finds nothing in it.

    Args:
        path: the file, or ``":memory:"``; ``cache.sqlite`` in the home of the settings when
            not given. A client may keep its answers in the same file.
        ttl: how many seconds an answer is served for; None for no limit.
        max_mb: what the answers may take together, in megabytes; 256 when not given.
        tenant: whose answers these are. Others on the same store never see them.
        store: where they lie instead of ``path``, by the core's Store protocol.
        cache: a ready Cache instead of all of these.

    Raises:
        ConfigError: a number is none that makes sense, or the path cannot be a file.

    Example:
        .. code-block:: python

            set_llm_cache(AideonCache("answers.sqlite", ttl=3600))
    """

    def __init__(
        self,
        path: str | PathLike[str] | None = None,
        *,
        ttl: float | None = None,
        max_mb: float | None = None,
        tenant: str = "",
        store: Store | None = None,
        cache: Cache | None = None,
    ) -> None:
        if cache is None:
            cache = Cache(path, ttl=ttl, max_mb=max_mb, tenant=tenant, store=store)
        elif (path, ttl, max_mb, tenant, store) != (None, None, None, "", None):
            raise ConfigError("cache= says all of it.", hint="Give it alone, or leave it out.")
        self._cache = cache

    def __repr__(self) -> str:
        return f"AideonCache({self._cache!r})"

    def lookup(self, prompt: str, llm_string: str) -> list[Generation] | None:
        """The answers kept for a prompt and a model; None where there are none."""
        key = self._cache.key(_KIND, [prompt, llm_string])
        if (written := self._cache.get(key)) is None:
            return None
        if (found := _read(written)) is None:
            self._cache.drop(key)
        return found

    def update(self, prompt: str, llm_string: str, return_val: Sequence[Generation]) -> None:
        """Keep answers; those that would not come back equal are not kept."""
        if (written := _written(return_val)) is not None:
            self._cache.put(self._cache.key(_KIND, [prompt, llm_string]), written)

    def clear(self, **kwargs: Any) -> None:  # noqa: ARG002 - the base's
        """Forget the tenant's LangChain answers; those of clients on the same store stay.

        Raises:
            ConfigError: the store cannot be used, so they are there still.
        """
        self._cache.clear(_KIND)

    async def alookup(self, prompt: str, llm_string: str) -> list[Generation] | None:
        """``lookup`` without blocking the event loop."""
        return await self._cache.off_loop(partial(self.lookup, prompt, llm_string))

    async def aupdate(self, prompt: str, llm_string: str, return_val: Sequence[Generation]) -> None:
        """``update`` without blocking the event loop."""
        await self._cache.off_loop(partial(self.update, prompt, llm_string, return_val))

    async def aclear(self, **kwargs: Any) -> None:
        """``clear`` without blocking the event loop."""
        await self._cache.off_loop(partial(self.clear, **kwargs))

    def close(self) -> None:
        """Let go of the file; it is opened again when it is needed."""
        self._cache.close()


def _written(generations: Sequence[Generation]) -> bytes | None:
    kept = [_bare(each) for each in generations]
    try:
        written = json.dumps([_shown(each) for each in kept]).encode()
    except (TypeError, ValueError, RecursionError):
        return None
    return written if kept and _read(written) == kept else None


def _read(written: bytes) -> list[Generation] | None:
    try:
        return [_made(*each) for each in json.loads(written)] or None
    except (AttributeError, LookupError, TypeError, ValueError, RecursionError):
        return None


def _bare(generation: Generation) -> Generation:
    """The generation with its parsed value as plain JSON, as LangChain itself writes it."""
    if not isinstance(generation, ChatGeneration):
        return generation
    parsed = generation.message.additional_kwargs.get("parsed")
    if not isinstance(parsed, BaseModel):
        return generation
    extras = generation.message.additional_kwargs | {"parsed": parsed.model_dump()}
    message = generation.message.model_copy(update={"additional_kwargs": extras})
    return generation.model_copy(update={"message": message})


def _shown(generation: Generation) -> list[Any]:
    message: BaseMessage | None = getattr(generation, "message", None)
    if message is None:
        return [type(generation).__name__, generation.model_dump(), None, None]
    facts = generation.model_dump(exclude={"message"})
    return [type(generation).__name__, facts, type(message).__name__, message.model_dump()]


def _made(
    kind: str,
    facts: dict[str, Any],
    message_kind: str | None,
    message: dict[str, Any] | None,
) -> Generation:
    if message_kind is not None:
        facts = facts | {"message": _MESSAGES[message_kind](**(message or {}))}
    return _GENERATIONS[kind](**facts)
