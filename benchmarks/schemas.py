"""JSON Schemas people wrote: the share that each side can hold a local model to."""

from __future__ import annotations

import json
import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.measure import PEER, Row, row, skipped

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

DATA = Path(__file__).parents[2] / "shared/data/jsonschemabench/sample.jsonl"


@dataclass(frozen=True)
class Counted:
    """How many schemas there are, were compiled, and are enforced with every keyword.

    ``seconds`` is the median time to compile one.
    """

    given: int
    compiled: int
    enforced: int
    seconds: float


def counted(schemas: Iterable[Any], left: Callable[[Any], Iterable[str]]) -> Counted:
    """Count over schemas; ``left`` compiles one, names what it leaves, and raises if it cannot."""
    given, full, times = 0, 0, []
    for schema in schemas:
        given += 1
        started = time.perf_counter()
        try:
            leaves = tuple(left(schema))
        except Exception:  # noqa: BLE001 - the peer fails by whatever comes up
            continue
        times.append(time.perf_counter() - started)
        full += not leaves
    return Counted(given, len(times), full, statistics.median(times) if times else 0.0)


def ours(schema: Any) -> tuple[str, ...]:  # noqa: ANN401 - JSON
    """What Aideon leaves for a check afterwards; a grammar of nothing but JSON is none."""
    from aideon_core.backends.llama_cpp.forms.grammar import json_schema

    left = json_schema(schema).unenforced
    if "#" in left:
        raise ValueError(left)
    return left


def theirs(schema: Any) -> tuple[str, ...]:  # noqa: ANN401 - JSON
    """The peer converts a schema or fails; it does not tell what it leaves out."""
    from llama_cpp.llama_grammar import json_schema_to_gbnf

    json_schema_to_gbnf(json.dumps(schema))
    return ()


def rows(schemas: list[Any]) -> list[Row]:
    """The rows for these schemas."""
    ours_counted, theirs_counted = counted(schemas, ours), counted(schemas, theirs)
    note = f"{ours_counted.given} schemas; {{}}"
    return [
        row(
            "JSON Schemas of JSONSchemaBench that become a grammar",
            "share",
            ours_counted.compiled / ours_counted.given,
            f"{PEER}, json_schema_to_gbnf",
            theirs_counted.compiled / theirs_counted.given,
            target=("ratio", ">=", 1.0),
            note=note.format(
                f"median {ours_counted.seconds * 1e3:.2f} ms, theirs "
                f"{theirs_counted.seconds * 1e3:.2f} ms"
            ),
        ),
        row(
            "the same, with every keyword enforced",
            "share",
            ours_counted.enforced / ours_counted.given,
            f"{PEER}, which does not tell what it leaves out",
            None,
            note=note.format("of the others, what is not enforced is checked afterwards"),
        ),
    ]


def main() -> None:
    """Print the rows."""
    if not DATA.exists():
        skipped(f"JSONSchemaBench is not at {DATA}")
        print("[]")
        return
    lines = DATA.read_text(encoding="utf-8").splitlines()
    print(json.dumps(rows([json.loads(line)["schema"] for line in lines])))


if __name__ == "__main__":
    main()
