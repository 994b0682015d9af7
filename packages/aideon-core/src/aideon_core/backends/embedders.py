"""Who computes the vectors of a model: an embedder for each place it is said to be in."""

from __future__ import annotations

from os import PathLike, fspath
from typing import TYPE_CHECKING, Final, TypeAlias

from aideon_core.backends import hosts
from aideon_core.backends.base import Embedder
from aideon_core.backends.llama_cpp.embedding.embedder import LlamaCppEmbedder
from aideon_core.backends.openai_compatible import OpenAICompatibleBackend
from aideon_core.backends.together import TogetherBackend, cloud_backend
from aideon_core.embeddings import EmbeddingModel
from aideon_core.embeddings.space import Space
from aideon_core.errors import ConfigError

if TYPE_CHECKING:
    from aideon_core.backends.base import Backend
    from aideon_core.config import Config
    from aideon_core.keys import Keys

DEFAULT: Final = EmbeddingModel(cloud="intfloat/multilingual-e5-large-instruct")
"""What a client of Together's embeds with when it is not told otherwise."""

EmbeddingTarget: TypeAlias = (
    "str | PathLike[str] | EmbeddingModel | Embedder | OpenAICompatibleBackend"
)
"""Where an embedding model is: a name, a path, an embedder, or an EmbeddingModel."""


def space_of(
    target: EmbeddingTarget | None,
    *,
    cloud: Backend | None = None,
    api_key: Keys | None = None,
    base_url: str | None = None,
    timeout: float | None = None,
    config: Config | None = None,
) -> Space:
    """The space of what ``embedding=`` says; DEFAULT is for those whose cloud is Together's.

    A cloud model on the host of ``cloud`` shares its keys, address and settings; the words
    for the cloud reach it where ``cloud`` is None.

    Raises:
        ConfigError: there is no such model, file or host, or it is none of these.
    """
    if target is None or (target is DEFAULT and not isinstance(cloud, TogetherBackend)):
        return Space(None, {})
    model = target if isinstance(target, EmbeddingModel) else _placed(target)
    embedders: list[Embedder] = []
    if isinstance(model.local, str | PathLike):
        embedders.append(LlamaCppEmbedder(model.local))
    elif model.local is not None:
        embedders.append(_checked(model.local))
    if isinstance(model.cloud, str):
        host, name = hosts.split(model.cloud)
        if not (isinstance(cloud, OpenAICompatibleBackend) and cloud.name == host.name):
            # The words are about the chat model's host, where there is one.
            words = (None, None, None) if cloud else (api_key, base_url, timeout)
            cloud = cloud_backend(
                model.cloud, api_key=words[0], base_url=words[1], timeout=words[2], config=config
            )
        embedders.append(cloud.embedder(name))
    elif model.cloud is not None:
        embedders.append(_checked(model.cloud))
    by_name = {each.name: each for each in embedders}
    if len(by_name) < len(embedders):
        raise ConfigError(f"Both places of the embedding model are named {embedders[0].name!r}.")
    return Space(model, by_name)


def _placed(target: object) -> EmbeddingModel:
    if isinstance(target, str | PathLike):
        is_file = isinstance(target, PathLike) or fspath(target).endswith(".gguf")
        return EmbeddingModel(local=target) if is_file else EmbeddingModel(cloud=str(target))
    embedder = _checked(target)
    if embedder.side == "local":
        return EmbeddingModel(local=embedder)
    return EmbeddingModel(cloud=embedder)


def _checked(target: object) -> Embedder:
    if isinstance(target, OpenAICompatibleBackend):
        return target.embedder()
    if not isinstance(target, Embedder):
        raise ConfigError(
            f"embedding= is {target!r}.",
            hint="It takes a cloud model's name, a .gguf file, or an EmbeddingModel of both.",
        )
    return target
