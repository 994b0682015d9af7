"""The packages as users install them: metadata, versions, layout."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = sorted(path.parent for path in ROOT.glob("packages/*/pyproject.toml"))
VERSION = tomllib.loads((PACKAGES[0] / "pyproject.toml").read_text())["project"]["version"]
MODULES = {
    "aideon-core": "aideon_core",
    "aideon-testing": "aideon_testing",
    "crewai-aideon": "crewai_aideon",
    "langchain-aideon": "langchain_aideon",
    "llama-index-llms-aideon": "llama_index.llms.aideon",
}


def project(package):
    return tomllib.loads((package / "pyproject.toml").read_text())["project"]


@pytest.mark.parametrize("package", PACKAGES, ids=lambda path: path.name)
def test_a_package_has_what_an_index_and_a_type_checker_want(package):
    """Licence, readme, types and the one version are in every package."""
    data = project(package)
    assert data["version"] == VERSION
    assert data["license"] == "MIT"
    assert (package / "LICENSE").read_text() == (ROOT / "LICENSE").read_text()
    assert len((package / "README.md").read_text().splitlines()) > 5
    assert "Typing :: Typed" in data["classifiers"]
    module = MODULES[package.name].replace(".", "/")
    assert (package / "src" / module / "py.typed").exists()


@pytest.mark.parametrize("package", PACKAGES, ids=lambda path: path.name)
def test_connectors_move_with_the_core(package):
    """Whatever depends on the core takes this minor version of it and no other."""
    major, minor, _ = VERSION.split(".")
    wanted = f">={major}.{minor},<{major}.{int(minor) + 1}"
    for dependency in project(package)["dependencies"]:
        if dependency.startswith("aideon-"):
            assert dependency == f"aideon-core{wanted}"
        else:
            assert re.search(r">=\d", dependency), f"{dependency} has no lower bound"


def test_the_core_depends_on_little():
    """aideon-core has at most six direct dependencies, and none of them is a framework."""
    names = [
        re.match(r"[\w.-]+", d)[0] for d in project(ROOT / "packages/aideon-core")["dependencies"]
    ]
    assert len(names) <= 6
    assert not {"openai", "langchain-core", "llama-cpp-python", "numpy"} & set(names)


@pytest.mark.parametrize("module", MODULES.values())
def test_the_public_names_exist(module):
    """__all__ is the public surface: every name in it is there, once."""
    script = (
        f"import {module} as it\n"
        "print(len(it.__all__) == len(set(it.__all__)), all(hasattr(it, n) for n in it.__all__))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["True", "True"]


def test_the_llama_index_namespace_is_left_open():
    """Our package adds to llama_index and does not replace it."""
    namespace = ROOT / "packages/llama-index-llms-aideon/src/llama_index"
    assert not (namespace / "__init__.py").exists()
    assert not (namespace / "llms" / "__init__.py").exists()


def test_the_lock_has_hashes_and_no_addresses():
    """requirements.lock pins every file by hash and names no host."""
    lock = (ROOT / "requirements.lock").read_text()
    assert "://" not in lock
    pinned = re.findall(r"^\S+==\S+.*$", lock, re.MULTILINE)
    assert len(pinned) > 100
    assert lock.count("--hash=sha256:") >= len(pinned)


def test_help_names_every_verb():
    """`make help` lists the verbs a contributor needs."""
    done = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True)
    listed = {line.split()[0] for line in done.stdout.splitlines() if line.strip()}
    wanted = "help demo test format lint typecheck docs notebooks bench build lock check"
    assert set(wanted.split()) <= listed
