"""Measure Aideon against its peers, side by side in one run.

Usage: python benchmarks [ONLY ...] [OPTION ...]

Each benchmark is a module that prints its rows as JSON on its last line; options go to every
one that is named. The figures of all go into ``benchmarks/results.json``, and as a table, with
``benchmarks/method.md`` below it, into ``docs/benchmarks.md``.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ROOT = HERE.parent
ENVIRONMENT = ROOT / ".venv-bench"
PYTHON = ENVIRONMENT / "bin" / "python"
RESULTS = HERE / "results.json"
TABLE = ROOT / "docs" / "benchmarks.md"
METHOD = HERE / "method.md"
BENCHMARKS = (
    "import_cost",
    "core_call",
    "langchain_calls",
    "local_chat",
    "local_json",
    "local_settings",
    "local_turns",
    "local_parallel",
    "bfcl",
    "schemas",
)

HEAD = """\
# Benchmarks

Every row is taken in one run of `make bench`, Aideon and the peer in turn, round after round.
Quote the ratios: the machines are shared, and single figures move.

Measured on {when}, Python {python}, {machine}, {cores} cores.

| what | unit | Aideon | peer | figure | Aideon / peer | target | note |
|---|---|--:|---|--:|--:|---|---|
"""


def main(given: list[str]) -> int:
    """Run the benchmarks named, or all; 2 if a name is none."""
    first = next((at for at, word in enumerate(given) if word.startswith("-")), len(given))
    only, options = given[:first], given[first:]
    if unknown := [name for name in only if name not in BENCHMARKS]:
        print(f"no benchmark {unknown[0]!r}; there are {', '.join(BENCHMARKS)}")
        return 2
    prepare()
    kept = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for name in only or BENCHMARKS:
        print(f"{name} ...", flush=True)
        command = [str(PYTHON), "-m", f"benchmarks.{name}", *options]
        done = subprocess.run(
            command, check=True, stdout=subprocess.PIPE, text=True, env=quiet(), cwd=ROOT
        )
        # What was left out keeps the figures it had.
        if rows := json.loads(done.stdout.splitlines()[-1]):
            kept[name] = rows
            # At once: the next one may take an hour, and fail.
            RESULTS.write_text(json.dumps(kept, indent=2) + "\n")
    text = HEAD.format(
        when=datetime.now(UTC).date(),
        python=platform.python_version(),
        machine=f"{platform.system()} {platform.machine()}",
        cores=os.cpu_count(),
    )
    lines = [line(row) for name in BENCHMARKS for row in kept.get(name, [])]
    TABLE.write_text(f"{text}{''.join(lines)}\n{METHOD.read_text()}")
    print("".join(lines), end="")
    return 0


def quiet() -> dict[str, str]:
    """The environment without keys: nothing measured here may reach a real service."""
    return {name: value for name, value in os.environ.items() if "API_KEY" not in name}


def prepare() -> None:
    """Make the peers' environment, unless it is there and as wanted."""
    packages = [ROOT / "packages" / name for name in ("aideon-testing", "langchain-aideon")]
    core = ROOT / "packages" / "aideon-core"
    # Our own dependencies change too.
    said = [HERE / "requirements.txt", *(each / "pyproject.toml" for each in (core, *packages))]
    wanted = "".join(file.read_text() for file in said)
    stamp = ENVIRONMENT / ".installed"
    if stamp.exists() and stamp.read_text() == wanted:
        return
    uv = str(Path(sys.executable).with_name("uv"))
    ours = ["-e", f"{core}[local]", *(word for each in packages for word in ("-e", str(each)))]
    install = [uv, "pip", "install", "--quiet", "--python", str(PYTHON)]
    # The wheel that set-up built, so that it need not be built anew.
    compiled = ["--no-deps", *map(str, (ROOT / ".venv" / "wheels").glob("*.whl"))]
    for command in (
        [uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(ENVIRONMENT)],
        [*install, *compiled],
        [*install, "-r", f"{HERE}/requirements.txt", *ours],
    ):
        subprocess.run(command, check=True)
    stamp.write_text(wanted)


def line(row: dict[str, Any]) -> str:
    """One row of the table."""
    ours, theirs = row["ours"], row["theirs"]
    ratio = f"{ours / theirs:.2f}" if theirs else ""
    target = f"{row['target']}: {'held' if row['held'] else 'missed'}" if "target" in row else ""
    cells = (row["what"], row["unit"], figure(ours), row["peer"], figure(theirs), ratio, target)
    return f"| {' | '.join(cells)} | {row.get('note', '')} |\n"


def figure(value: float | None) -> str:
    """A figure in three digits, or a dash for none."""
    return "-" if value is None else f"{value:.3g}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
