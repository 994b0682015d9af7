"""The ``aideon`` command, as a shell sees it."""

import hashlib
import importlib.util
import json
from importlib.metadata import version

import pytest

from aideon_core import catalog, cli

CONTENT = b"GGUF and some weights"
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("AIDEON_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("AIDEON_OFFLINE", raising=False)
    monkeypatch.delenv("AIDEON_CONFIG", raising=False)
    return tmp_path / "home"


@pytest.fixture
def weights(tmp_path):
    path = tmp_path / "mine.gguf"
    path.write_bytes(CONTENT)
    return path


def test_pull_prints_the_path_and_nothing_else(home, weights, capsys):
    """`$(aideon pull ...)` is the path of the file; progress goes to stderr."""
    assert cli.main(["pull", str(weights), "--sha256", SHA256]) == 0
    said = capsys.readouterr()
    assert said.out == f"{home / 'models' / SHA256[:16] / 'mine.gguf'}\n"
    assert "100%" in said.err


def test_a_terminal_gets_a_bar(weights, capsys, monkeypatch):
    """On a terminal the size so far is shown as a bar."""
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("NO_COLOR", "1")
    assert cli.main(["pull", str(weights)]) == 0
    assert "21/21 bytes" in capsys.readouterr().err


def test_an_error_is_two_lines_and_no_traceback(capsys):
    """A failure is told in its message and its hint, with exit code 1."""
    assert cli.main(["pull", "gemma-3-270"]) == 1
    assert capsys.readouterr().err == (
        "There is no local model 'gemma-3-270'.\nDid you mean 'gemma-3-270m'?\n"
    )


def test_a_wrong_file_names_both_hashes(weights, capsys):
    """A catalogued model is not replaced by a file that only claims to be it."""
    assert cli.main(["pull", "gemma-3-270m", "--from", str(weights)]) == 1
    assert "path: sent 21 bytes, expected 253,113,024." in capsys.readouterr().err


def test_offline_is_told(capsys, monkeypatch):
    """With AIDEON_OFFLINE, pull says so and what to do instead."""
    monkeypatch.setenv("AIDEON_OFFLINE", "1")
    assert cli.main(["pull"]) == 1
    assert "AIDEON_OFFLINE" in capsys.readouterr().err


def test_an_interrupt_is_130(capsys, monkeypatch):
    """Ctrl-C ends with 130 and says that nothing is lost."""

    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(catalog, "pull", interrupted)
    assert cli.main(["pull"]) == 130
    assert "the next run carries on" in capsys.readouterr().err


def test_models_lists_what_there_is(capsys):
    """`aideon models` shows every catalogued model."""
    assert cli.main(["models"]) == 0
    said = capsys.readouterr().out
    assert all(model.id in said for model in catalog.MODELS)


def test_models_as_json(home, capsys):
    """`aideon models --json` gives size, licence, path and whether the model is here."""
    assert cli.main(["models", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    first = catalog.MODELS[0]
    assert rows[0]["id"] == first.id
    assert rows[0]["size"] == first.size
    assert rows[0]["license"] == "Apache-2.0"
    assert rows[0]["pulled"] is False
    assert rows[0]["path"] == str(catalog.path(home, first))


def test_version(capsys):
    """`aideon --version` is the package's version."""
    with pytest.raises(SystemExit) as caught:
        cli.main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out == f"aideon {version('aideon-core')}\n"


def test_without_rich_the_extra_is_named(capsys, monkeypatch):
    """Without the cli extra, the command says what to install and exits with 2."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert cli.main(["models"]) == 2
    assert "pip install 'aideon-core[cli]'" in capsys.readouterr().err
