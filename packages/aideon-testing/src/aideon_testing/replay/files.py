"""Finding recordings on disk and reading them."""

from __future__ import annotations

import json
import re
from functools import cache
from typing import TYPE_CHECKING, Final

from aideon_testing.replay.exchange import Exchange
from aideon_testing.replay.formats import Malformed, exchanges

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from yaml import SafeLoader

    from aideon_testing.replay.formats import Pair

# Every recorder's file has one of these names in it; whatever else lies beside is not parsed.
_MARK: Final = re.compile(rb"""\b(?:interactions|response)['"]?\s*:""")
_RECORDERS_ENDINGS: Final = {".json", ".yaml", ".yml"}
_EXPECTED: Final = (
    "expected a cassette of go-vcr or vcrpy ('interactions' at the top) or a tape of "
    "huggingface.js (each entry with 'url' and 'response')"
)
_TIMESTAMP: Final = "tag:yaml.org,2002:timestamp"


class UnreadableRecording(ValueError):
    """Files hold no recordings, or broken ones; the message names each and what was expected.

    Attributes:
        reasons: what is wrong with each file.
    """

    def __init__(self, reasons: Mapping[Path, str]) -> None:
        lines = "".join(f"\n  {path}: {reason}" for path, reason in reasons.items())
        super().__init__(f"No recordings were loaded, because these cannot be read:{lines}")
        self.reasons = reasons


def load(path: Path) -> tuple[list[Exchange], dict[Path, str]]:
    """Read a file, or every file below a directory in the order of their paths.

    Returns:
        The exchanges, and the files that hold none, each with the reason. A file that was
        named itself is never among those.

    Raises:
        UnreadableRecording: files are broken; all of them are named.
        MissingDependency: there are YAML files and no PyYAML.
        FileNotFoundError: there is nothing at ``path``.
    """
    named = not path.is_dir()
    files = [path] if named else _below(path)
    found: list[Exchange] = []
    left_out: dict[Path, str] = {}
    broken: dict[Path, str] = {}
    for file in files:
        try:
            pairs = _read(file, named=named)
        except Malformed as error:
            reasons = broken if named or file.suffix in _RECORDERS_ENDINGS else left_out
            reasons[file] = str(error)
            continue
        if pairs is None:
            left_out[file] = _EXPECTED
            continue
        found.extend(Exchange(file, number, *pair) for number, pair in enumerate(pairs, 1))
    if not found:
        broken |= left_out
    if not files:
        broken[path] = "there are no files in it"
    if broken:
        raise UnreadableRecording(broken)
    return found, left_out


def _below(directory: Path) -> list[Path]:
    return sorted(
        file
        for file in directory.rglob("*")
        if file.is_file()
        and not any(part.startswith(".") for part in file.relative_to(directory).parts)
    )


def _read(file: Path, *, named: bool) -> list[Pair] | None:
    content = file.read_bytes()
    if not named and not _MARK.search(content):
        return None
    try:
        return exchanges(_document(content))
    except RecursionError as error:
        raise Malformed("it is nested too deeply to be a recording") from error


def _document(content: bytes) -> object:
    try:
        return json.loads(content)
    except ValueError:
        return _yaml(content)


def _yaml(content: bytes) -> object:
    try:
        import yaml
    except ImportError as error:
        from aideon_core.errors import MissingDependency

        raise MissingDependency(
            "PyYAML is not installed, so recordings written as YAML cannot be read.",
            hint="pip install 'aideon-testing[replay]'",
        ) from error
    try:
        return yaml.load(content, Loader=_loader())  # noqa: S506 - a safe one
    except (yaml.YAMLError, ValueError) as error:
        raise Malformed(f"{_EXPECTED}, but it is neither JSON nor YAML: {error}") from error


@cache
def _loader() -> type[SafeLoader]:
    import yaml

    safe = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    # JSON has no dates: what looks like one in a body is text.
    resolvers = {
        first: [(tag, pattern) for tag, pattern in pairs if tag != _TIMESTAMP]
        for first, pairs in safe.yaml_implicit_resolvers.items()
    }
    loader: type[SafeLoader] = type("_Loader", (safe,), {"yaml_implicit_resolvers": resolvers})
    return loader
