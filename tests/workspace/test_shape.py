"""Limits that keep the code readable, checked so that they do not slip."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODULES = sorted(ROOT.glob("packages/*/src/**/*.py"))
MOST_LINES, MOST_FUNCTION_LINES = 400, 60


def shown(path):
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", MODULES, ids=shown)
def test_a_module_can_be_read_in_one_sitting(path):
    """No module over 400 lines, no function over 60 without its docstring."""
    source = path.read_text()
    assert len(source.splitlines()) <= MOST_LINES
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = node.end_lineno - node.lineno + 1
            if ast.get_docstring(node):
                doc = node.body[0]
                lines -= doc.end_lineno - doc.lineno + 1
            assert lines <= MOST_FUNCTION_LINES, f"{node.name} has {lines} lines"


def test_no_module_is_a_drawer():
    """There is no utils, common or helpers: a module has a subject."""
    drawers = {"utils", "common", "helpers", "misc"}
    assert [shown(path) for path in MODULES if path.stem in drawers] == []


def test_the_environment_is_read_in_one_place():
    """os.environ is read by the configuration and by nobody else in the core."""
    readers = [
        shown(path)
        for path in MODULES
        if "aideon_core" in path.parts and re.search(r"os\.(environ|getenv)", path.read_text())
    ]
    assert readers == ["packages/aideon-core/src/aideon_core/config.py"]


@pytest.mark.parametrize("path", sorted((ROOT / "tests").rglob("test_*.py")), ids=shown)
def test_every_test_promises_something(path):
    """Each test function has a docstring: the sentence it holds us to."""
    tree = ast.parse(path.read_text())
    silent = [
        node.name
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.name.startswith("test_")
        and not ast.get_docstring(node)
    ]
    assert silent == []
