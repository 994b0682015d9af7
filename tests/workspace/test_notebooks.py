"""The notebooks run top to bottom, and carry no outputs."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))
SECONDS = 300


def read(notebook: Path) -> nbformat.NotebookNode:
    return nbformat.read(notebook, as_version=4)


def name(notebook: Path) -> str:
    return notebook.stem


@pytest.mark.slow
@pytest.mark.model
@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=name)
def test_a_notebook_runs_top_to_bottom(notebook, local_model, monkeypatch, tmp_path):
    """A reader without a key runs every cell in order and gets no error."""
    monkeypatch.setenv("AIDEON_HOME", str(local_model.path.parents[2]))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    resources = {"metadata": {"path": str(tmp_path)}}

    NotebookClient(
        read(notebook), timeout=SECONDS, kernel_name="python3", resources=resources
    ).execute()


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=name)
def test_a_notebook_is_kept_without_outputs(notebook):
    """What a notebook shows is what it says when a reader runs it, never an old run."""
    cells = [cell for cell in read(notebook).cells if cell.cell_type == "code"]

    assert [cell.id for cell in cells if cell.outputs or cell.execution_count is not None] == []
