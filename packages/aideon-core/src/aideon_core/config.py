"""Settings, resolved once; the only module that reads the environment."""

from __future__ import annotations

import difflib
import math
import os
import tomllib
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING

from platformdirs import user_data_path

from aideon_core.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

TOGETHER_BASE_URL = "https://api.together.ai"
DEFAULT_LOCAL = "qwen2.5-coder-0.5b-instruct"
DEFAULT_CLOUD = "meta-llama/Llama-3.3-70B-Instruct-Turbo"
DEFAULT_POLICY = "local-first"

_FALSE = frozenset({"", "0", "false", "no", "off"})


class Secret:
    """A value that never shows itself; ``reveal()`` is the one way to read it."""

    __slots__ = ("_read",)

    def __init__(self, value: str) -> None:
        # In a closure, because what prints an object's attributes prints its slots too.
        self._read: Callable[[], str] = lambda: value

    def reveal(self) -> str:
        """The value, for the moment it is sent."""
        return self._read()

    def __repr__(self) -> str:
        return f"{type(self).__name__}('***')"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._read() == other._read()

    def __hash__(self) -> int:
        return hash(self._read())

    def __copy__(self) -> Secret:
        return self

    def __deepcopy__(self, memo: object) -> Secret:
        return self

    def __reduce__(self) -> str:
        raise TypeError("a Secret is not pickled: read the key again where it is needed")


def variable(name: str) -> str:
    """What the environment variable holds now, stripped; empty when it is not set."""
    return os.environ.get(name, "").strip()


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """What a client starts from: arguments come before it, these defaults after.

    ``home`` holds pulled models. ``local_memory_gb`` is what the files of the chat models in this
    process's memory may take together: the one idle for longest leaves when another needs the
    room. ``offline`` rules the cloud out. ``local``, ``cloud`` and ``policy`` are what a client
    uses when it is not told otherwise. ``together_api_key`` takes the place of the
    environment's, which is read whenever a call is made.
    """

    home: Path = field(default_factory=lambda: user_data_path("aideon", appauthor=False))
    offline: bool = False
    together_api_key: Secret | None = None
    together_base_url: str = TOGETHER_BASE_URL
    local: str | None = DEFAULT_LOCAL
    cloud: str | None = DEFAULT_CLOUD
    policy: str = DEFAULT_POLICY
    local_memory_gb: float | None = None

    @classmethod
    def load(cls, environ: Mapping[str, str] | None = None) -> Config:
        """Read the environment, and the TOML file that ``AIDEON_CONFIG`` names, if it does.

        Args:
            environ: variables to read in place of the process's, its key among them.

        Raises:
            ConfigError: the file is missing, is not TOML, or has an unknown key.
        """
        env = os.environ if environ is None else environ
        values: dict[str, object] = {}
        if path := env.get("AIDEON_CONFIG"):
            values.update(_from_toml(Path(path)))
        if home := env.get("AIDEON_HOME"):
            values["home"] = Path(home).expanduser()
        if "AIDEON_OFFLINE" in env:
            values["offline"] = env["AIDEON_OFFLINE"].strip().lower() not in _FALSE
        if limit := env.get("AIDEON_LOCAL_MEMORY_GB", "").strip():
            values["local_memory_gb"] = _gigabytes(limit, "AIDEON_LOCAL_MEMORY_GB")
        # A key may be replaced while the process runs, so the process's own is read by the key
        # ring when a call is made.
        if environ is not None and (key := environ.get("TOGETHER_API_KEY", "").strip()):
            values["together_api_key"] = Secret(key)
        if base_url := env.get("TOGETHER_BASE_URL", "").strip():
            values["together_base_url"] = base_url
        return cls(**values)  # type: ignore[arg-type]


# Keys never come from the file: a file is copied, committed and backed up.
_FILE_KEYS = tuple(f.name for f in fields(Config) if f.name != "together_api_key")
_FILE_TYPES: Mapping[str, type] = {"offline": bool}


def _gigabytes(given: object, where: str) -> float:
    try:
        limit = 0.0 if isinstance(given, bool) else float(given)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        limit = 0.0
    if not 0 < limit < math.inf:
        raise ConfigError(f"{where} is {given!r}.", hint="It takes a number of gigabytes.")
    return limit


def _from_toml(path: Path) -> dict[str, object]:
    where = f"AIDEON_CONFIG names {str(path)!r}"
    try:
        read = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        reason = error.strerror or str(error)
        raise ConfigError(f"{where}, which cannot be read: {reason}.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{where}, which is not valid TOML: {error}.") from error
    for key, value in read.items():
        if key not in _FILE_KEYS:
            near = difflib.get_close_matches(key, _FILE_KEYS, n=1)
            hint = f"Did you mean {near[0]!r}?" if near else f"Known keys: {', '.join(_FILE_KEYS)}."
            raise ConfigError(f"{where}, which has an unknown key {key!r}.", hint=hint)
        if key == "local_memory_gb":
            read[key] = _gigabytes(value, f"{where}, where {key}")
            continue
        expected = _FILE_TYPES.get(key, str)
        if not isinstance(value, expected):
            raise ConfigError(
                f"{where}, where {key} is {value!r}.", hint=f"It takes a {expected.__name__}."
            )
    if "home" in read:
        read["home"] = Path(read["home"]).expanduser()
    return read
