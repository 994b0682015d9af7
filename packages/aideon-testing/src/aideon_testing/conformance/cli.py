"""``aideon conformance``: the suite from a shell."""

from __future__ import annotations

import json
import sys
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Final, cast

from aideon_core import Config, LlamaCppBackend
from aideon_core.backends.together import cloud_backend
from aideon_core.errors import ConfigError
from aideon_testing.conformance.promises import FEATURES
from aideon_testing.conformance.reference import LOOPBACK_CONTEXT, loopback
from aideon_testing.conformance.runner import examine
from aideon_testing.conformance.shapes import differences
from aideon_testing.conformance.subject import Subject

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Iterator

    from aideon_core.backends.base import Backend
    from aideon_testing.conformance.promises import Feature
from aideon_testing.conformance.runner import Report, Result

_REPEATS: Final = "repeats"
_LOCAL_CONTEXT: Final = 4096
_OUTCOMES: Final = ("passed", "refused", "skipped", "failed")


def run(options: Namespace) -> int:
    """Hold what the options name to the suite, and print what came of it.

    Returns:
        0 when every promise is kept and the shapes agree, 1 otherwise.

    Raises:
        ConfigError: there is no such model, host or feature.
    """
    lacks = _features(options.without)
    with ExitStack() as stack:

        def report(spec: str, base_url: str | None = None) -> Report:
            backend, context = stack.enter_context(_opened(spec, base_url, options.context))
            repeats = _REPEATS not in options.without
            subject = Subject(backend, lacks=lacks, repeats=repeats, context_tokens=context)
            stack.callback(subject.close)
            return examine(subject, only=options.only, told=None if options.json else _tell)

        mine = report(_spec(options), options.base_url)
        theirs = report(options.against) if options.against else None
    if not mine.results:
        raise ConfigError(
            f"No body of the suite has {options.only!r} in its name.",
            hint="Names are told as bodies run; an area such as 'tools' will do.",
        )
    apart = differences(mine.shapes, theirs.shapes) if theirs else []
    reports = [each for each in (mine, theirs) if each]
    if options.json:
        told = [each.as_dict() for each in reports]
        print(json.dumps({"reports": told, "differences": apart}, indent=2))
    else:
        for each in reports:
            print(table(each))
        print(*(f"differs: {line}" for line in apart), sep="\n", end="\n" if apart else "")
    return int(bool(apart) or any(each.failed for each in reports))


def table(report: Report) -> str:
    """What came of the areas of the suite, a row each, and every promise that broke."""
    areas = dict.fromkeys(each.area for each in report.results)
    lines = ["", report.model, f"{'':<12}" + "".join(f"{name:>9}" for name in _OUTCOMES)]
    for area in areas:
        came = [each.outcome for each in report.results if each.area == area]
        lines.append(f"{area:<12}" + "".join(f"{came.count(name):>9}" for name in _OUTCOMES))
    for each in report.failed:
        lines += [f"failed: {each.area} {each.name}", f"  {each.sentence}", f"  {each.message}"]
    return "\n".join(lines)


@contextmanager
def _opened(
    spec: str, base_url: str | None, context: int | None
) -> Iterator[tuple[Backend, int | None]]:
    """The backend that a name stands for, and how long its context is, if that is known."""
    if spec == "loopback":
        with loopback() as perfect:
            yield perfect, LOOPBACK_CONTEXT
        return
    kind, _, model = spec.partition(":")
    backend: Backend
    if kind == "local":
        if base_url:
            raise ConfigError("--base-url does not reach a local model.")
        context = context or _LOCAL_CONTEXT
        backend = LlamaCppBackend(model, n_ctx=context)
    else:
        backend = cloud_backend(spec, base_url=base_url)
    if (reason := backend.unavailable()) is not None:
        raise reason
    try:
        yield backend, context
    finally:
        backend.close()


def _spec(options: Namespace) -> str:
    """What is examined, as ``--against`` would name it."""
    given = [
        each
        for each in (
            options.local and f"local:{options.local}",
            options.cloud,
            options.target,
        )
        if each
    ]
    if len(given) > 1:
        raise ConfigError("Several models are named.", hint="Examine one at a time.")
    if given:
        return cast("str", given[0])
    config = Config.load()
    if options.base_url is None and config.local:
        return f"local:{config.local}"
    if config.cloud:
        return config.cloud
    raise ConfigError("No model is named.", hint="Give --local MODEL, --cloud MODEL or 'loopback'.")


def _features(without: list[str]) -> list[Feature]:
    known = (*FEATURES, _REPEATS)
    if unknown := set(without) - set(known):
        raise ConfigError(
            f"There is no feature {min(unknown)!r}.", hint=f"Features: {', '.join(known)}."
        )
    return [feature for feature in FEATURES if feature in without]


def _tell(result: Result) -> None:
    line = f"{result.outcome:<8} {result.area} {result.name} ({result.seconds:.1f} s)"
    print(line, file=sys.stderr, flush=True)
