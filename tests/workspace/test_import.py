"""What importing costs: users import us in notebooks, lambdas and tests."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

PROBE = """
import json, socket, sys

opened = []
made = socket.socket.__init__
def counted(self, *args, **kwargs):
    opened.append(args)
    made(self, *args, **kwargs)
socket.socket.__init__ = counted

read = []
import io
def watch(event, args):
    if event == "open" and isinstance(args[0], str):
        read.append(args[0])
sys.addaudithook(watch)

import {module}

loaded = list(read)
def peak():
    # ru_maxrss would count the process that started this one.
    for line in io.open("/proc/self/status"):
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024
print(json.dumps({{
    "sockets": len(opened),
    "modules": sorted(sys.modules),
    "read": loaded,
    "rss": peak() if sys.platform == "linux" else 0,
}}))
"""

HEAVY = {
    "crewai",
    "docstring_parser",
    "genai_prices",
    "httpx",
    "httpx2",
    "huggingface_hub",
    "jinja2",
    "jsonschema_rs",
    "langchain_core",
    "llama_cpp",
    "llama_index.core",
    "numpy",
    "openai",
    "pydantic",
    "requests",
    "together",
    "transformers",
}


def probe(module):
    done = subprocess.run(
        [sys.executable, "-c", PROBE.format(module=module)],
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def core():
    return probe("aideon_core")


def test_importing_the_core_opens_no_socket(core):
    """`import aideon_core` makes no connection, not even tries to."""
    assert core["sockets"] == 0


def test_importing_the_core_loads_no_model_runtime_and_no_framework(core):
    """llama.cpp, numpy, HTTP, prices and frameworks are loaded when first used, not before."""
    assert HEAVY & set(core["modules"]) == set()


def test_importing_the_core_stays_small(core):
    """The core imports within 45 MB and 260 modules."""
    assert core["rss"] < 45_000_000
    assert len(core["modules"]) < 260


def test_importing_the_core_reads_code_and_nothing_else(core):
    """No settings, caches or data files are read at import."""
    code = (".py", ".pyc", ".so", ".pth", ".pyd")
    others = [
        path
        for path in core["read"]
        if not path.endswith(code) and ".pyc." not in path and "pyvenv.cfg" not in path
    ]
    assert others == []


def test_making_a_client_loads_no_http_library():
    """Who asks only the local model never waits for what speaks to the cloud."""
    code = "import sys; from aideon_core import Client; Client(); print('httpx2' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
