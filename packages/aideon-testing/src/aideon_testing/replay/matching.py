"""When two requests ask the same, and where they differ if they do not."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from hashlib import sha256
from itertools import takewhile, zip_longest
from typing import TYPE_CHECKING, Any, Final, Self, TypeAlias
from urllib.parse import parse_qs, unquote

from aideon_testing import multipart
from aideon_testing.faults import Failure

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from aideon_testing.connection import HttpRequest

    Path: TypeAlias = "tuple[Path, str | int] | None"

# Relays put their own base path before the version, and clients given a base URL that ends
# in /v1 repeat it.
_BASE: Final = re.compile(r"^.*?(?:/v1)*(?=/v\d+(?:/|$))")
_ROOT: Final = re.compile(r"^\$(?=[.\[])")
_STEP: Final = re.compile(r"\['(.*?)'\]|([^.\[\]]+)")
_NAME: Final = re.compile(r"[A-Za-z_]\w*")
_ABSENT: Final = object()
_SHOWN = 60
_BEFORE = 20


@dataclass(frozen=True, slots=True)
class Question:
    """What a request asks, apart from who asks it and how it is written down.

    Attributes:
        method: the HTTP method.
        path: without its base, such as ``/v1/chat/completions``.
        query: the values of each parameter.
        kind: ``json``, ``form`` or ``raw``.
        value: what the body says; see ``read``.
    """

    method: str
    path: str
    query: dict[str, list[str]]
    kind: str
    value: Any

    @classmethod
    def of(cls, request: HttpRequest, ignore: Sequence[str] = ()) -> Self:
        """Read a request, leaving out what is to be ignored in its body."""
        kind, value = read(request.content)
        for path in ignore:
            steps = _STEP.findall(_ROOT.sub("", path))
            _leave_out(value, [quoted or plain for quoted, plain in steps])
        path = unquote(_BASE.sub("", request.path)).rstrip("/")
        query = parse_qs(request.query, keep_blank_values=True)
        return cls(request.method, path or "/", query, kind, value)

    @property
    def key(self) -> tuple[str, ...]:
        """Equal for requests that ask the same."""
        return self.method, self.path, _canonical(self.query), self.kind, _canonical(self.value)

    def distance(self, other: Question) -> int:
        """In how many query parameters and fields of the body two requests differ."""
        return _fields_apart(self.query, other.query) + _fields_apart(self.value, other.value)

    def difference(self, asked: Question) -> Difference | None:
        """Where another request first differs from this one, query before body."""
        if (query := _first(self.query, asked.query, "query")) is not None:
            return query
        if self.kind != asked.kind:
            return Difference("$", f"a {self.kind} body", f"a {asked.kind} body")
        return _first(self.value, asked.value, "$")


@dataclass(frozen=True, slots=True)
class Difference:
    """Where two requests differ first.

    Attributes:
        path: a JSON path into the body, or one that starts with ``query``.
        recorded: what the recorded request has there.
        asked: what the other one has there.
    """

    path: str
    recorded: str
    asked: str


def read(content: bytes) -> tuple[str, Any]:
    """What a body says, by its content and not by its headers, which recorders leave out.

    Returns:
        ``json`` and the value; ``form`` and the texts and files of each name; or ``raw`` and
        the text, or what tells bytes that are none.
    """
    try:
        # 1 and 1.0 are one number to JSON.
        return "json", json.loads(content, parse_float=_number)
    except (ValueError, RecursionError):
        pass
    if content.startswith(b"--"):
        boundary = content[2:].partition(b"\r\n")[0].decode("latin-1")
        try:
            form = multipart.parse(f'multipart/form-data; boundary="{boundary}"', content)
        except Failure:
            pass
        else:
            return "form", _form(form)
    return "raw", _text(content)


def _number(text: str) -> int | float:
    number = float(text)
    return int(number) if number.is_integer() else number


def _form(form: multipart.Form) -> dict[str, list[Any]]:
    fields: dict[str, list[Any]] = {name: [*texts] for name, texts in form.fields.items()}
    for name, files in form.files.items():
        fields.setdefault(name, []).extend(
            {"filename": file.filename, "type": file.content_type, "content": _text(file.content)}
            for file in files
        )
    return fields


def _text(content: bytes) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError:
        return f"{len(content)} bytes with SHA-256 {sha256(content).hexdigest()}"


def _leave_out(value: object, steps: Sequence[str]) -> None:
    if not steps:
        return
    owners = [value]
    for step in steps[:-1]:
        owners = [owner[key] for owner in owners for key in _keys(owner, step)]  # type: ignore[index] # _keys has none for scalars
    for owner in owners:
        for key in [*_keys(owner, steps[-1])]:
            if isinstance(owner, dict):
                del owner[key]
            elif isinstance(owner, list) and isinstance(key, int):
                owner[key] = None  # the others keep their places


def _keys(owner: object, step: str) -> Iterable[str | int]:
    if isinstance(owner, dict):
        return owner if step == "*" else owner.keys() & {step}
    if isinstance(owner, list):
        places = range(len(owner))
        if step.isdecimal():
            return [int(step)] if int(step) in places else []
        return places if step == "*" else []
    return ()


def _canonical(value: object) -> str:
    """One text for equal values, whatever the order of their names; of any depth."""
    tokens: list[str] = []
    stack = [value]
    while stack:
        item = stack.pop()
        # With their sizes told, objects and arrays need no end.
        if isinstance(item, dict):
            tokens.append(f"{{{len(item)}")
            for name in sorted(item, reverse=True):
                stack += item[name], name
        elif isinstance(item, list):
            tokens.append(f"[{len(item)}")
            stack.extend(reversed(item))
        else:
            tokens.append(json.dumps(item))
    return "\n".join(tokens)


def _fields_apart(one: object, other: object) -> int:
    if isinstance(one, dict) and isinstance(other, dict):
        return sum(
            name not in one or name not in other or _canonical(one[name]) != _canonical(other[name])
            for name in one.keys() | other.keys()
        )
    return int(_canonical(one) != _canonical(other))


def _first(recorded: object, asked: object, root: str) -> Difference | None:
    stack: list[tuple[Path, object, object]] = [(None, recorded, asked)]
    while stack:
        path, one, other = stack.pop()
        if isinstance(one, dict) and isinstance(other, dict):
            names = [*one, *(name for name in other if name not in one)]
            stack.extend(
                ((path, name), one.get(name, _ABSENT), other.get(name, _ABSENT))
                for name in reversed(names)
            )
        elif isinstance(one, list) and isinstance(other, list):
            pairs = enumerate(zip_longest(one, other, fillvalue=_ABSENT))
            stack.extend(((path, place), *pair) for place, pair in reversed([*pairs]))
        elif not _same(one, other):
            return Difference(root + _told(path), *_shown(one, other))
    return None


def _same(one: object, other: object) -> bool:
    if any(value is _ABSENT or isinstance(value, dict | list) for value in (one, other)):
        return False
    return json.dumps(one) == json.dumps(other)


def _told(path: Path) -> str:
    steps: list[str] = []
    while path is not None:
        path, step = path
        named = isinstance(step, str) and _NAME.fullmatch(step)
        steps.append(f".{step}" if named else f"[{step!r}]")
    return "".join(reversed(steps))


def _shown(one: object, other: object) -> tuple[str, str]:
    # Long texts are shown from shortly before the place where they part.
    start = 0
    if isinstance(one, str) and isinstance(other, str):
        alike = takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False))
        start = max(0, sum(1 for _ in alike) - _BEFORE)
    return _excerpt(one, start), _excerpt(other, start)


def _excerpt(value: object, start: int) -> str:
    if value is _ABSENT:
        return "nothing"
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return "an array"
    if isinstance(value, str):
        before, after = "…" if start else "", "…" if len(value) > start + _SHOWN else ""
        value = f"{before}{value[start : start + _SHOWN]}{after}"
    return json.dumps(value, ensure_ascii=False)
