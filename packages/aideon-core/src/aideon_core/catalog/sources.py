"""Places that have a model's bytes: the Hugging Face Hub, a URL, a file."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Protocol
from urllib.parse import urlsplit

from aideon_core.errors import ConnectFailed, MissingDependency, Offline, PullFailed, TimedOut

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from aideon_core import transport
    from aideon_core.catalog.partial import Partial

_CHUNK = 1 << 20
_OK, _PARTIAL_CONTENT, _RANGE_NOT_SATISFIABLE = 200, 206, 416


class Source(Protocol):
    """A place to take a file from; ``name`` is what ``pull(source=...)`` calls it."""

    name: ClassVar[str]

    def fetch(self, partial: Partial) -> None:
        """Append what is missing to the partial file.

        Raises:
            AideonError: it could not, with the reason.
            OSError: likewise.
        """


@dataclass(frozen=True, slots=True)
class HuggingFace:
    """A file of a repository on the Hugging Face Hub, or the one ``HF_ENDPOINT`` names.

    ``revision`` is a commit, so that the file cannot change behind its name.
    """

    name: ClassVar[str] = "huggingface"

    repo: str
    revision: str
    file: str

    def fetch(self, partial: Partial) -> None:
        """Download the file with the machine's own Hugging Face settings and token.

        ``hf_hub_download`` would do, but an interrupted one starts over (huggingface_hub
        2.4); the library gives the address and the token, and our download resumes.

        Raises:
            MissingDependency: huggingface_hub is not installed.
            Offline: ``HF_HUB_OFFLINE`` is set.
            PullFailed: the Hub refused, or has another file.
            ConnectFailed: the Hub cannot be reached.
            TimedOut: the Hub does not answer.
        """
        try:
            import huggingface_hub as hub
        except ImportError as error:
            raise MissingDependency(
                "huggingface_hub is not installed: pip install 'aideon-core[local]'."
            ) from error
        if hub.is_offline_mode():
            raise Offline("HF_HUB_OFFLINE is set.")
        url = hub.hf_hub_url(self.repo, self.file, revision=self.revision)
        # The library's own build_hf_headers sends a request of its own, to learn who calls it.
        headers = {"User-Agent": "aideon"}
        if not hub.constants.HF_HUB_DISABLE_IMPLICIT_TOKEN and (token := hub.get_token()):
            headers["Authorization"] = f"Bearer {token}"
        Url(url, headers).fetch(partial)


@dataclass(frozen=True, slots=True)
class Url:
    """A plain http:// or https:// address."""

    name: ClassVar[str] = "url"

    address: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)

    def fetch(self, partial: Partial) -> None:
        """Download the rest of the file, again and again as long as each try brings something.

        Raises:
            PullFailed: the server refused, or has a file of another size.
            ConnectFailed: the server cannot be reached, or breaks off every time.
            TimedOut: the server does not answer.
            ConfigError: this is no web address.
        """
        from aideon_core import transport

        with transport.Client(
            timeout=transport.TIMEOUT, follow_redirects=True, headers=dict(self.headers)
        ) as client:
            while True:
                before = partial.size
                try:
                    with transport.normalized(self.shown):
                        return self._download(client, partial)
                except (ConnectFailed, TimedOut):
                    if partial.size <= before:
                        raise

    @property
    def shown(self) -> str:
        """The address without what may be secret in it: user, password and query."""
        parts = urlsplit(self.address)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"

    def _download(self, client: transport.Client, partial: Partial) -> None:
        at = partial.size if partial.verified or partial.version else 0
        # Compressed on the way, the bytes could not be counted, and so not resumed.
        headers = {"Accept-Encoding": "identity"}
        if at:
            headers["Range"] = f"bytes={at}-"
            if not partial.verified:
                headers["If-Range"] = partial.version
        with client.stream("GET", self.address, headers=headers) as response:
            if response.status_code != _RANGE_NOT_SATISFIABLE or not at:
                return partial.fill(self._accept(response, at, partial), response.iter_raw())
            if response.headers.get("Content-Range") == f"bytes */{at}":
                return None
        partial.discard()
        return self._download(client, partial)

    def _accept(self, response: transport.RawResponse, at: int, partial: Partial) -> int:
        """Hold the answer's head against what is wanted; returns the byte it starts at."""
        total = response.headers.get("Content-Length", "")
        if response.status_code == _PARTIAL_CONTENT:
            sent = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", response.headers.get("Content-Range", ""))
            if sent is None or int(sent[1]) != at:
                raise PullFailed(f"{self.shown} answered with another range than it was asked for.")
            total = sent[2]
        elif response.status_code == _OK:
            at = 0
        else:
            reason = f"{response.status_code} {response.reason_phrase}".strip()
            raise PullFailed(f"{self.shown} answered {reason}.")
        if total and partial.total not in (None, int(total)):
            raise PullFailed(f"{self.shown} has {int(total):,} bytes, expected {partial.total:,}.")
        partial.total = int(total) if total else partial.total
        if not partial.verified:
            etag = response.headers.get("ETag", "")
            partial.version = "" if etag.startswith("W/") else etag
        partial.reserve()
        return at


@dataclass(frozen=True, slots=True)
class LocalFile:
    """A file on this machine."""

    name: ClassVar[str] = "path"

    path: Path

    def fetch(self, partial: Partial) -> None:
        """Copy the rest of the file.

        Raises:
            PullFailed: the disk is full.
            OSError: the file cannot be read.
        """
        partial.total = partial.total or self.path.stat().st_size
        partial.reserve()
        at = partial.size if partial.verified else 0
        partial.fill(at, self._read(at))

    def _read(self, at: int) -> Iterator[bytes]:
        with self.path.open("rb") as file:
            file.seek(at)
            while chunk := file.read(_CHUNK):
                yield chunk
