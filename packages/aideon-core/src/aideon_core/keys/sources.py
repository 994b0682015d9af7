"""Where keys are read from: fixed ones, the environment, a file, a function."""

from __future__ import annotations

import codecs
import inspect
import re
import stat
from collections.abc import Callable, Sequence
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias, runtime_checkable

from aideon_core.config import Secret, variable
from aideon_core.errors import ConfigError
from aideon_core.keys.key import Key, keys_in, wrapped

if TYPE_CHECKING:
    import os

Answer: TypeAlias = str | Secret | Sequence[str | Secret]
"""What a function may give: one key or several."""

_COMMENT: Final = re.compile(r"(?:^|\s)#.*")
_MOST_BYTES: Final = 1 << 16


@runtime_checkable
class Source(Protocol):
    """Something that gives keys when it is asked.

    Attributes:
        ttl: for how many seconds an answer holds; 0 asks anew for every call.
        blocking: reading may wait, for a disk or a network, so it is done in a thread.
    """

    @property
    def ttl(self) -> float: ...  # noqa: D102 - told above

    @property
    def blocking(self) -> bool: ...  # noqa: D102 - told above

    def read(self) -> Sequence[Key]:
        """The keys there are now.

        Raises:
            AideonError: they cannot be told; the ring goes on with those it has.
        """
        ...


class Fixed:
    """Keys that are written down.

    Args:
        *keys: the keys.

    Raises:
        ConfigError: one of them cannot be a key.
    """

    ttl = inf
    blocking = False

    def __init__(self, *keys: str | Secret) -> None:
        self._keys: tuple[Key, ...] = ()  # what prints a traceback may print a half-made object
        texts = [text if isinstance(text, Secret) else Secret(text) for text in keys]
        del keys  # a traceback that prints local variables would show them
        self._keys = tuple([Key.checked(text, "api_key=") for text in texts])

    def __repr__(self) -> str:
        return f"Fixed({', '.join('***' for _ in self._keys)})"

    def read(self) -> tuple[Key, ...]:
        """The same keys every time."""
        return self._keys


class Environment:
    """Keys from the environment, as it is when a call is made.

    Three variables are read, and their keys are put together: ``NAME`` holds one key,
    ``NAMES`` several with commas or white space between them, and ``NAME_FILE`` the path of a
    file that holds them.

    Args:
        name: the first variable; the other two are named after it.
    """

    def __init__(self, name: str = "TOGETHER_API_KEY") -> None:
        self.name = name
        self._texts: tuple[Secret, ...] = ()
        self._keys: tuple[Key, ...] = ()

    def __repr__(self) -> str:
        return f"Environment({self.name!r})"

    @property
    def ttl(self) -> float:
        """No time at all, or as long as a file's answer when a file is named."""
        return File.ttl if self.blocking else 0.0

    @property
    def blocking(self) -> bool:
        """Whether there is a file to read."""
        return bool(variable(f"{self.name}_FILE"))

    def read(self) -> tuple[Key, ...]:
        """The keys of the three variables."""
        path = variable(f"{self.name}_FILE")
        from_file = File(path).read() if path else ()
        return self._from_variables() + from_file

    def _from_variables(self) -> tuple[Key, ...]:
        several = f"{self.name}S"
        texts = (Secret(variable(self.name)), Secret(variable(several)))
        if texts != self._texts:
            one = [Key.checked(texts[0], self.name)] if texts[0].reveal() else []
            self._keys = (*one, *keys_in(texts[1], several))
            self._texts = texts
        return self._keys


class File:
    """Keys from a file: one a line, where ``#`` begins a comment.

    The file is read anew every second that it is needed, and at once when a key is refused, so
    a new key takes over without a restart. Links are followed, as Kubernetes and Docker use
    them for secrets.

    Args:
        path: the file; ``~`` is the user's folder.
    """

    ttl = 1.0
    blocking = True

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path).expanduser()

    def __repr__(self) -> str:
        return f"File({str(self.path)!r})"

    def read(self) -> tuple[Key, ...]:
        """The keys in the file now.

        Raises:
            ConfigError: it cannot be read, or holds no key or a line that cannot be one.
        """
        text = _content(self.path)
        lines = [Secret(_COMMENT.sub("", line)) for line in text.reveal().splitlines()]
        filled = [line for line in lines if line.reveal().strip()]
        if not filled:
            # One that is being written is empty for a moment, so this is no set of no keys.
            raise ConfigError(
                f"The key file {self.path} holds no key.", hint="It takes one key a line."
            )
        return tuple([Key.checked(line, str(self.path)) for line in filled])


class Called:
    """Keys from a function that gives one or several.

    Args:
        function: asked in a thread; a coroutine function is refused, because a key is shared
            by every event loop and belongs to none.
        ttl: for how many seconds its answer holds.

    Raises:
        ConfigError: the function is a coroutine function.
    """

    blocking = True

    def __init__(self, function: Callable[[], Answer], *, ttl: float = 60.0) -> None:
        self._function = function
        self._name = getattr(function, "__qualname__", type(function).__name__)
        self.ttl = ttl
        if inspect.iscoroutinefunction(function):
            raise self._asynchronous()

    def __repr__(self) -> str:
        return f"Called({self._name})"

    def read(self) -> tuple[Key, ...]:
        """What the function gives now.

        Raises:
            ConfigError: it gives no key.
        """
        where = f"the function {self._name}"
        answers = wrapped(self._function())
        texts = [answer for answer in answers if isinstance(answer, Secret)]
        for answer in answers:
            if inspect.iscoroutine(answer):
                answer.close()
                raise self._asynchronous()
        if not texts or len(texts) < len(answers):
            given = ", ".join(type(answer).__name__ for answer in answers) or "nothing"
            raise ConfigError(f"A key or several are wanted of {where}, and it gave {given}.")
        return tuple([Key.checked(text, where) for text in texts])

    def _asynchronous(self) -> ConfigError:
        return ConfigError(
            f"The function {self._name} is a coroutine function, and a plain one is wanted.",
            hint="Give one that blocks: it is called in a thread and keeps no event loop waiting.",
        )


def _content(path: Path) -> Secret:
    try:
        # A pipe is waited for without end, and a large file is a wrong path.
        found = path.stat()
        data = path.read_bytes() if _may_hold_keys(found) else None
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise ConfigError(
            f"The key file {path} cannot be read: {reason}.",
            hint="Check the path, and who may read it.",
        ) from error
    if data is None:
        raise ConfigError(f"{path} is no key file.", hint="It has to be a small file of text.")
    utf_16 = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    # What cannot be decoded is no key either, and may stand in a comment.
    return Secret(data.decode("utf-16" if utf_16 else "utf-8-sig", errors="replace"))


def _may_hold_keys(found: os.stat_result) -> bool:
    return stat.S_ISREG(found.st_mode) and found.st_size <= _MOST_BYTES
