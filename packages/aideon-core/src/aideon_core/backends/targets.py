"""The backends that ``local=``, ``cloud=`` and ``model=`` stand for, each by its own name."""

from __future__ import annotations

from os import PathLike
from typing import TYPE_CHECKING, TypeAlias

from aideon_core import catalog
from aideon_core.backends import hosts
from aideon_core.backends.base import Backend
from aideon_core.backends.llama_cpp import LlamaCppBackend
from aideon_core.backends.openai_compatible import OpenAICompatibleBackend
from aideon_core.backends.together import cloud_backend
from aideon_core.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from aideon_core.config import Config
    from aideon_core.keys import Keys

Target: TypeAlias = str | PathLike[str] | Backend
"""A model's name or path, or a ready backend."""


def of_local(targets: Target | Sequence[Target] | None, config: Config) -> list[Backend]:
    """The backends of what ``local=`` says, in its order.

    Raises:
        ConfigError: something of it is neither a name, a path nor a backend.
    """
    found: list[Backend] = []
    for target in _each(targets, "local="):
        if isinstance(target, str | PathLike):
            found.append(LlamaCppBackend(target, config=config))
        else:
            found.append(_ready(target, "local=", "a name, a path or a backend"))
    return found


def of_cloud(
    targets: Target | Sequence[Target] | None,
    *,
    api_key: Keys | None,
    base_url: str | None,
    timeout: float | None,
    config: Config,
) -> list[Backend]:
    """The backends of what ``cloud=`` says, in its order; those of one host share connections.

    Raises:
        ConfigError: something of it is neither a name nor a backend, or the words for the
            cloud reach none of it.
    """
    found: list[Backend] = []
    made: dict[str, OpenAICompatibleBackend] = {}
    for target in _each(targets, "cloud="):
        if isinstance(target, PathLike):
            raise ConfigError(
                f"cloud= is the path {target!s}.", hint="A model file goes to local=."
            )
        if isinstance(target, str):
            host, model = hosts.split(target)
            if host.name in made:
                found.append(made[host.name].of_model(model))
                continue
            made[host.name] = cloud_backend(
                target, api_key=api_key, base_url=base_url, timeout=timeout, config=config
            )
            found.append(made[host.name])
        else:
            found.append(_ready(target, "cloud=", "a name or a backend"))
    if found and not made and (api_key, base_url, timeout) != (None, None, None):
        raise ConfigError(
            f"api_key=, base_url= and timeout= do not reach {found[0]!r}.",
            hint="Give them to the backend itself, or name the cloud model instead.",
        )
    if len(made) > 1 and (api_key, base_url) != (None, None):
        raise ConfigError(
            f"api_key= and base_url= are of one host, and cloud= names {' and '.join(made)}.",
            hint="Give backends of their own for the others.",
        )
    return found


def by_name(backends: Sequence[Backend]) -> dict[str, Backend]:
    """The backends under their names; several of one name are told apart by their models."""
    found: dict[str, Backend] = {}
    for backend in backends:
        name = backend.name
        if name in found:
            name = f"{name}:{backend.model}"
        number = 2
        while name in found:
            name, number = f"{backend.name}:{backend.model}#{number}", number + 1
        found[name] = backend
    return found


def checked(model: object) -> str:
    """What ``model=`` says.

    Raises:
        ConfigError: it is no name.
    """
    if not model or not isinstance(model, str):
        raise ConfigError(f"model= is {model!r}.", hint="It takes the name of a model.")
    return model


def named(model: str, backends: Mapping[str, Backend], config: Config) -> dict[str, Backend]:
    """Who answers when ``model=`` asks for one model: those that have it, or a new backend.

    Args:
        model: a model or a name of ``backends``, a catalogue id, the path of a ``.gguf`` file,
            or a cloud model, with its host unless that is the host of ``backends``.
        backends: the client's own.
        config: settings for a new one.

    Raises:
        ConfigError: nothing can go by that name.
    """
    own = {name: each for name, each in backends.items() if model in (name, each.model)}
    if own:
        return own
    if model in catalog.BY_ID or model.endswith(".gguf"):
        return by_name([LlamaCppBackend(model, config=config)])
    return by_name([_hosted(model, backends, config)])


def _hosted(model: str, backends: Mapping[str, Backend], config: Config) -> Backend:
    clouds = [each for each in backends.values() if each.side == "cloud"]
    if not clouds:
        raise ConfigError(
            f"model= is {model!r}, which is no local model, and this client has no cloud side.",
            hint="Give the client a cloud=, or name a catalogue id or a .gguf file.",
        )
    kin = [each for each in clouds if isinstance(each, OpenAICompatibleBackend)]
    prefix, colon, _ = model.partition(":")
    if kin and not (colon and prefix in hosts.HOSTS):
        return kin[0].of_model(model)
    host, name = hosts.split(model)
    for cloud in kin:
        if cloud.name == host.name:
            return cloud.of_model(name)
    return cloud_backend(model, config=config)


def _ready(target: object, word: str, takes: str) -> Backend:
    if isinstance(target, Backend):
        return target
    hint = f"It takes {takes}."
    if hasattr(target, "complete"):
        has = (name for name in vars(Backend) if not name.startswith("_"))
        missing = [name for name in has if not hasattr(target, name)]
        hint = f"A backend has {', '.join(missing)} besides."
    raise ConfigError(f"{word} is {target!r}.", hint=hint)


def _each(targets: object, word: str) -> Iterator[object]:
    if isinstance(targets, list | tuple):
        if not targets:
            raise ConfigError(f"{word} is empty.", hint="Give None for no model on that side.")
        yield from targets
    elif targets is not None:
        yield targets
