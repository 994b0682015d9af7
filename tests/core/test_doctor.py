"""``aideon doctor`` tells what is installed and what the cloud answers."""

from __future__ import annotations

import json

import pytest

from aideon_core import Config, cli
from aideon_core.doctor import examine
from aideon_testing import Failure

MODEL = "meta-llama/Llama-3.3-70B-Instruct-Turbo"


@pytest.fixture
def config(together_env, tmp_path):
    return Config(home=tmp_path, cloud=MODEL, local=None, together_base_url=together_env.base_url)


def told(config, subject):
    return [finding for finding in examine(config) if finding.subject == subject]


def test_a_sound_installation_has_no_problem(config):
    """With everything in place, no finding is a problem."""
    assert {finding.level for finding in examine(config)} <= {"ok", "note"}
    (model,) = told(config, "cloud model")
    assert model.level == "ok"


def test_a_model_the_server_does_not_list_names_the_nearest(config, tmp_path, together):
    """A wrong cloud model is a problem, with the names that come near."""
    wrong = Config(
        home=tmp_path,
        cloud="meta-llama/Llama-3.3-70B-Instruct-Trubo",
        local=None,
        together_base_url=together.base_url,
    )
    (model,) = told(wrong, "cloud model")
    assert model.level == "problem"
    assert MODEL in model.hint


def test_a_refused_key_is_a_problem(config, together):
    """A key the server refuses is told with what to check, and not repeated."""
    together.keys.revoke("loopback")
    (cloud,) = told(config, "Together AI")
    assert (cloud.level, "loopback" in cloud.message) == ("problem", False)


def test_no_key_is_a_problem(config, monkeypatch):
    """Without a key the variable to set is named."""
    monkeypatch.delenv("TOGETHER_API_KEY")
    (cloud,) = told(config, "Together AI")
    assert "TOGETHER_API_KEY" in cloud.hint


def test_a_server_that_fails_is_a_problem(config, together):
    """An error of the server is told as it came."""
    together.faults.always(Failure.unavailable())
    (cloud,) = told(config, "Together AI")
    assert "503" in cloud.message


def test_a_local_model_that_is_missing_says_how_to_pull_it(config, tmp_path):
    """The local side is looked at without loading it."""
    local = Config(home=tmp_path, cloud=None, local="qwen2.5-coder-0.5b-instruct")
    (model,) = told(local, "local model")
    assert model.level == "problem"
    assert "aideon pull" in model.hint


def test_the_command_prints_findings_and_fails_on_problems(config, capsys, monkeypatch, tmp_path):
    """`aideon doctor` exits 1 when something is wrong, and --json gives the same to scripts."""
    monkeypatch.setenv("AIDEON_HOME", str(tmp_path))
    assert cli.main(["doctor"]) == 1
    assert "problem  local model: " in capsys.readouterr().out
    assert cli.main(["doctor", "--json"]) == 1
    findings = json.loads(capsys.readouterr().out)
    assert {"level", "subject", "message", "hint"} == set(findings[0])


def test_what_the_server_has_new_is_told(config, monkeypatch):
    """Fields, prices and kinds of models that this version has no name for are notes."""
    from aideon_testing.endpoints import models

    row = models.model_row(MODEL)
    row |= {"shiny": 1, "type": "hologram", "pricing": {**row["pricing"], "hologram": 3}}
    monkeypatch.setattr(models, "model_row", lambda *_: row)
    notes = " ".join(finding.message for finding in told(config, "wire"))
    for name in ("field", "shiny", "price", "hologram", "model type"):
        assert name in notes
