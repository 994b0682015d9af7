"""Forms sent as ``multipart/form-data``: pure functions, no I/O."""

from __future__ import annotations

import re
from dataclasses import dataclass
from email.message import Message
from email.parser import HeaderParser
from typing import TYPE_CHECKING
from urllib.parse import unquote

from aideon_testing.faults import Failure

if TYPE_CHECKING:
    from collections.abc import Mapping

# ; name="value" or ; name=value. The parsers of the standard library lose a name that ends in
# a backslash.
_PARAMETER = re.compile(r';\s*([\w*-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^;\s]*))')
# What clients escape in names; any other backslash or percent sign is part of the name.
_ESCAPED = re.compile(r'\\(["\\])|%(22|0[AaDd])')


@dataclass(frozen=True, slots=True)
class FormFile:
    """One file of a form.

    Attributes:
        filename: as the client calls it.
        content_type: what the client says it is, in lower case.
        content: the bytes.
    """

    filename: str
    content_type: str
    content: bytes


@dataclass(frozen=True, slots=True)
class Form:
    """A form, by the names of its parts.

    Attributes:
        fields: the texts given for each name, in order.
        files: the files given for each name, in order.
    """

    fields: Mapping[str, list[str]]
    files: Mapping[str, list[FormFile]]

    def field(self, name: str) -> str | None:
        """The first text given for a name, ``None`` when there is none."""
        return self.fields[name][0] if name in self.fields else None

    def file(self, name: str) -> FormFile | None:
        """The first file given for a name, ``None`` when there is none."""
        return self.files[name][0] if name in self.files else None


def parse(content_type: str, content: bytes) -> Form:
    """Read a form.

    Args:
        content_type: the header; it carries the boundary.
        content: the whole body.

    Raises:
        Failure: 400, the body is no form, or it is cut off.
    """
    head = Message()
    head["content-type"] = content_type
    boundary = head.get_boundary()
    if head.get_content_type() != "multipart/form-data" or not boundary:
        raise _malformed(f"expected multipart/form-data with a boundary, got '{content_type}'")
    mark = b"--" + boundary.encode("latin-1", "replace")
    # The first mark may open the body; every other one stands on a line of its own.
    _, *parts = (b"\r\n" + content).split(b"\r\n" + mark)
    if not parts or not parts[-1].startswith(b"--"):
        raise _malformed("it does not end with its boundary")
    fields: dict[str, list[str]] = {}
    files: dict[str, list[FormFile]] = {}
    for part in parts[:-1]:
        name, value = _part(part)
        if isinstance(value, FormFile):
            files.setdefault(name, []).append(value)
        else:
            fields.setdefault(name, []).append(value)
    return Form(fields, files)


def _part(part: bytes) -> tuple[str, str | FormFile]:
    lines, blank, content = part.partition(b"\r\n\r\n")
    if not blank:
        raise _malformed("a part has no empty line after its headers")
    head = HeaderParser().parsestr(lines.decode("utf-8", "replace").lstrip("\r\n \t"))
    names = _parameters(head.get("content-disposition", ""))
    if "name" not in names:
        raise _malformed("a part has no name")
    if "filename" in names:
        return names["name"], FormFile(names["filename"], head.get_content_type(), content)
    return names["name"], content.decode("utf-8", "replace")


def _parameters(disposition: str) -> dict[str, str]:
    """What a part says of itself; ``filename*`` is another way to give ``filename``."""
    parameters = {}
    for name, quoted, plain in _PARAMETER.findall(disposition):
        value = _ESCAPED.sub(_unescaped, quoted) or plain
        if name.endswith("*"):
            value = unquote(value.partition("''")[2])
        parameters[name.lower().removesuffix("*")] = value
    return parameters


def _unescaped(escape: re.Match[str]) -> str:
    return escape[1] or unquote(escape[0])


def _malformed(reason: str) -> Failure:
    return Failure.error(400, f"The form cannot be read: {reason}.")
