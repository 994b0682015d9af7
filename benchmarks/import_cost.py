"""What importing costs in CPU time and memory, in a fresh process each time."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys

ROUNDS = 7
OURS = "aideon_core"
PEERS = ("httpx2", "together", "litellm")
PROBE = """
import time
import {module}
peak = next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(time.process_time(), int(peak) / 1024)
"""


def probe(module: str) -> tuple[float, float]:
    """CPU seconds and peak MiB of a process that imports the module."""
    script = [sys.executable, "-W", "ignore", "-c", PROBE.format(module=module)]
    done = subprocess.run(script, capture_output=True, text=True, check=True)
    cpu, peak = done.stdout.splitlines()[-1].split()
    return float(cpu), float(peak)


def main() -> None:
    """Print a row for each peer and figure."""
    taken: dict[str, list[tuple[float, float]]] = {module: [] for module in (OURS, *PEERS)}
    for module in taken:
        probe(module)  # byte-compiles it and fills the disk cache
    for _ in range(ROUNDS):
        for module, figures in taken.items():
            figures.append(probe(module))
    median = {
        module: [statistics.median(column) for column in zip(*figures, strict=True)]
        for module, figures in taken.items()
    }
    rows = [
        {
            "what": f"import, {what}",
            "unit": unit,
            "ours": median[OURS][column],
            "peer": f"import {peer}",
            "theirs": median[peer][column],
        }
        for peer in PEERS
        for column, (what, unit) in enumerate((("CPU", "s"), ("peak memory", "MiB")))
    ]
    print(json.dumps(rows))


if __name__ == "__main__":
    main()
