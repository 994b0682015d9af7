"""Settings: environment, file, secrets."""

from __future__ import annotations

import pickle

import pytest

from aideon_core.config import TOGETHER_BASE_URL, Config, Secret
from aideon_core.errors import ConfigError


def test_an_empty_environment_gives_the_defaults():
    """With nothing set, the defaults hold and there is no key."""
    config = Config.load({})
    assert config.together_api_key is None
    assert config.together_base_url == TOGETHER_BASE_URL
    assert config.offline is False
    assert config.policy == "local-first"


@pytest.mark.parametrize(
    ("value", "offline"), [("1", True), ("true", True), ("0", False), ("", False), ("no", False)]
)
def test_offline_is_read_as_people_write_it(value, offline):
    """AIDEON_OFFLINE=1 switches the cloud off, =0 and empty do not."""
    assert Config.load({"AIDEON_OFFLINE": value}).offline is offline


def test_the_environment_comes_before_the_file(tmp_path):
    """AIDEON_CONFIG names a TOML file; variables override what it says."""
    file = tmp_path / "aideon.toml"
    file.write_text('policy = "cloud-first"\nhome = "~/models"\noffline = true\n')
    config = Config.load({"AIDEON_CONFIG": str(file), "AIDEON_HOME": str(tmp_path)})
    assert config.policy == "cloud-first"
    assert config.offline is True
    assert config.home == tmp_path


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('polcy = "x"', "Did you mean 'policy'"),
        ("policy = 3", "takes a str"),
        ('offline = "yes"', "takes a bool"),
        ("policy =", "not valid TOML"),
        ('together_api_key = "k"', "unknown key"),
    ],
)
def test_a_wrong_file_is_refused_with_the_place(tmp_path, text, said):
    """An unknown key, a wrong type or broken TOML is an error that names the file."""
    file = tmp_path / "aideon.toml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=said) as raised:
        Config.load({"AIDEON_CONFIG": str(file)})
    assert "aideon.toml" in str(raised.value)


def test_a_missing_file_is_an_error_and_not_the_defaults(tmp_path):
    """AIDEON_CONFIG pointing nowhere is told, not ignored."""
    with pytest.raises(ConfigError, match="No such file"):
        Config.load({"AIDEON_CONFIG": str(tmp_path / "none.toml")})


def test_a_secret_shows_itself_nowhere():
    """repr, str, format and pickle of a key give nothing away."""
    config = Config.load({"TOGETHER_API_KEY": "canary-key-8d1f"})
    assert config.together_api_key.reveal() == "canary-key-8d1f"
    for shown in (repr(config), str(config.together_api_key), f"{config.together_api_key}"):
        assert "canary" not in shown
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(Secret("canary-key-8d1f"))


def test_the_key_of_the_process_is_not_frozen_into_settings(monkeypatch):
    """Settings hold a key only where one was given to them: the environment's may be replaced."""
    monkeypatch.setenv("TOGETHER_API_KEY", "of-this-moment")
    assert Config.load().together_api_key is None
