"""Install each built wheel alone, with only what it asks for, and import it.

Usage: try_wheels.py DIST
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

IMPORTS = {
    "aideon_core": "aideon_core",
    "aideon_testing": "aideon_testing.server, aideon_testing.fakes",
    "crewai_aideon": "crewai_aideon",
    "langchain_aideon": "langchain_aideon",
    "llama_index_llms_aideon": "llama_index.llms.aideon",
}
"""What to import, by the wheel's name."""

FOREIGN = {
    "langchain_core": {"langchain_aideon", "crewai_aideon"},
    "llama_index.core": {"llama_index_llms_aideon"},
    "crewai": {"crewai_aideon"},
    "llama_cpp": set(),
}
"""What may be installed beside which wheels only: a connector brings its own framework."""

UV = Path(sys.executable).with_name("uv")


def main(dist: Path) -> int:
    """Try every wheel in ``dist``; 1 if one fails."""
    wheels = sorted(dist.glob("*.whl"))
    missing = set(IMPORTS) - {wheel.name.split("-")[0] for wheel in wheels}
    if missing:
        print(f"no wheel was built for {', '.join(sorted(missing))}")
        return 1
    return max(attempt(wheel, dist) for wheel in wheels)


def attempt(wheel: Path, dist: Path) -> int:
    """Install and import one wheel in an environment of its own."""
    name = wheel.name.split("-")[0]
    foreign = [module for module, homes in FOREIGN.items() if name not in homes]
    script = (
        "import importlib.util, sys\n"
        f"import {IMPORTS[name]}\n"
        "def found(module):\n"
        "    try: return importlib.util.find_spec(module) is not None\n"
        "    except ModuleNotFoundError: return False\n"
        f"extra = [module for module in {foreign!r} if found(module)]\n"
        "sys.exit(f'installed beside it: {extra}' if extra else 0)\n"
    )
    # Another wheel of the same version may have been tried before, and is in uv's cache.
    anew = [word for each in IMPORTS for word in ("--refresh-package", each.replace("_", "-"))]
    with tempfile.TemporaryDirectory() as folder:
        python = Path(folder, "bin", "python")
        for command in (
            [UV, "venv", "--quiet", "--python", sys.executable, folder],
            [UV, "pip", "install", "-q", "--python", python, *anew, "--find-links", dist, wheel],
            [python, "-I", "-c", script],
        ):
            done = subprocess.run([*map(str, command)], check=False)
            if done.returncode:
                print(f"{wheel.name}: failed at {' '.join(map(str, command[:3]))}")
                return 1
    print(f"{wheel.name}: installed alone and imported")
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
