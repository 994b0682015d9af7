"""Measure Aideon against its peers, side by side in one run.

Usage: python benchmarks [ONLY ...]

Each benchmark is a script that prints its rows as JSON. The figures of all go into
``benchmarks/results.json``, and as a table into ``docs/benchmarks.md``.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent
ENVIRONMENT = ROOT / ".venv-bench"
PYTHON = ENVIRONMENT / "bin" / "python"
RESULTS = HERE / "results.json"
TABLE = ROOT / "docs" / "benchmarks.md"
BENCHMARKS = ("import_cost", "core_call", "local_chat")

HEAD = """\
# Benchmarks

Every row is taken in one run of `make bench`, Aideon and the peer in turn, round after round.
Quote the ratios: the machines are shared, and single figures move.

Measured on {when}, Python {python}, {machine}, {cores} cores.

| what | unit | Aideon | peer | figure | Aideon / peer |
|---|---|--:|---|--:|--:|
"""


def main(only: list[str]) -> int:
    """Run the benchmarks named, or all; 2 if a name is none."""
    if unknown := [name for name in only if name not in BENCHMARKS]:
        print(f"no benchmark {unknown[0]!r}; there are {', '.join(BENCHMARKS)}")
        return 2
    prepare()
    kept = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for name in only or BENCHMARKS:
        print(f"{name} ...", flush=True)
        script = [str(PYTHON), str(HERE / f"{name}.py")]
        done = subprocess.run(script, check=True, stdout=subprocess.PIPE, text=True, env=quiet())
        kept[name] = json.loads(done.stdout.splitlines()[-1])
    RESULTS.write_text(json.dumps(kept, indent=2) + "\n")
    text = HEAD.format(
        when=datetime.now(UTC).date(),
        python=platform.python_version(),
        machine=f"{platform.system()} {platform.machine()}",
        cores=os.cpu_count(),
    )
    rows = [line(row) for name in BENCHMARKS for row in kept.get(name, [])]
    TABLE.write_text(text + "".join(rows))
    print("".join(rows), end="")
    return 0


def quiet() -> dict[str, str]:
    """The environment without keys: nothing measured here may reach a real service."""
    return {name: value for name, value in os.environ.items() if "API_KEY" not in name}


def prepare() -> None:
    """Make the peers' environment, unless it is there and as wanted."""
    wanted = (HERE / "requirements.txt").read_text()
    stamp = ENVIRONMENT / ".installed"
    if stamp.exists() and stamp.read_text() == wanted:
        return
    uv = str(Path(sys.executable).with_name("uv"))
    core, testing = (str(ROOT / "packages" / name) for name in ("aideon-core", "aideon-testing"))
    install = [uv, "pip", "install", "--quiet", "--python", str(PYTHON)]
    # The wheel that set-up built, so that it need not be built anew.
    compiled = ["--no-deps", *map(str, (ROOT / ".venv" / "wheels").glob("*.whl"))]
    for command in (
        [uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(ENVIRONMENT)],
        [*install, *compiled],
        [*install, "-r", f"{HERE}/requirements.txt", "-e", f"{core}[local]", "-e", testing],
    ):
        subprocess.run(command, check=True)
    stamp.write_text(wanted)


def line(row: dict[str, object]) -> str:
    """One row of the table."""
    ours, theirs = float(str(row["ours"])), float(str(row["theirs"]))
    shown = [str(row["what"]), str(row["unit"]), f"{ours:.3g}", str(row["peer"]), f"{theirs:.3g}"]
    return f"| {' | '.join(shown)} | {ours / theirs:.2f} |\n"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
