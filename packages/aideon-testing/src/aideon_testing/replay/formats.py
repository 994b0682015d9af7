"""The files of three recorders: go-vcr, vcrpy, and the tapes of huggingface.js."""

from __future__ import annotations

import gzip
import re
import zlib
from base64 import b64decode
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar
from urllib.parse import urlsplit

from aideon_testing import wire
from aideon_testing.connection import HttpRequest
from aideon_testing.replay.exchange import RecordedResponse

if TYPE_CHECKING:
    from collections.abc import Iterator

    Pair: TypeAlias = tuple[HttpRequest, RecordedResponse]

_Kind = TypeVar("_Kind")

_KINDS: Final[dict[type, str]] = {
    bool: "true or false",
    bytes: "bytes",
    dict: "a mapping",
    float: "a number",
    int: "a whole number",
    list: "a list",
    str: "text",
    type(None): "nothing",
}
_TAPE: Final = {"url", "response"}
_WRAPPED: Final = {"string", "base64_string", "encoding"}
_TAPE_BYTES: Final = "data:application/octet-stream;base64,"
_GZIP_MAGIC: Final = b"\x1f\x8b"
_HEADER_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9a-z-]+")
_CONTROL: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_STATUSES: Final = range(200, 600)


class Malformed(Exception):
    """A recording is not as its recorder writes it; says where and what was expected."""


@dataclass(frozen=True, slots=True)
class Node:
    """A value of a document, and where it stands there."""

    value: Any
    where: str = ""

    def __getitem__(self, name: str) -> Node:
        return Node(self.of(dict).get(name), f"{self.where}.{name}".lstrip("."))

    def items(self) -> Iterator[Node]:
        """The values of a list."""
        for place, value in enumerate(self.of(list)):
            yield Node(value, f"{self.where}[{place}]")

    def of(self, kind: type[_Kind]) -> _Kind:
        """The value, which has to be of a kind.

        Raises:
            Malformed: it is of another.
        """
        if type(self.value) is kind:
            return self.value
        found = _KINDS.get(type(self.value), type(self.value).__name__)
        raise Malformed(f"{self.where} should be {_KINDS[kind]} but is {found}")


def exchanges(document: object) -> list[Pair] | None:
    """The exchanges of a document, ``None`` when it is no recorder's.

    Raises:
        Malformed: it is a recorder's, and not as that one writes it.
    """
    if not isinstance(document, dict):
        return None
    if "interactions" in document:
        interactions = Node(document)["interactions"]
        return [_interaction(interaction) for interaction in interactions.items()]
    if any(isinstance(tape, dict) and tape.keys() >= _TAPE for tape in document.values()):
        return [_tape(Node(tape, str(key))) for key, tape in document.items()]
    return None


def _interaction(interaction: Node) -> Pair:
    request = interaction["request"]
    if "uri" in request.of(dict):
        return _vcrpy(request, interaction["response"])
    if "url" in request.value:
        return _go_vcr(request, interaction["response"])
    raise Malformed(f"{request.where} should have a url (go-vcr) or a uri (vcrpy)")


def _go_vcr(request: Node, response: Node) -> Pair:
    return (
        _request(request["method"], request["url"], request["headers"], request["body"]),
        _response(response["code"], response["headers"], response["body"]),
    )


def _vcrpy(request: Node, response: Node) -> Pair:
    asked = _request(request["method"], request["uri"], request["headers"], _vcrpy_body(request))
    # Until version 6 it wrote what httpx received in names of its own.
    older = "status_code" in response.of(dict)
    status = response["status_code"] if older else response["status"]["code"]
    body = response["content"] if older else _vcrpy_body(response)
    return asked, _response(status, response["headers"], body)


def _vcrpy_body(message: Node) -> Node:
    # Some serializers write JSON bodies as values, so that they can be read.
    return message["parsed_body"] if message.of(dict).get("body") is None else message["body"]


def _tape(tape: Node) -> Pair:
    # fetch() without an init is a GET.
    init = tape["init"] if tape.value.get("init") is not None else Node({}, f"{tape.where}.init")
    method = init["method"] if "method" in init.of(dict) else Node("GET")
    response = tape["response"]
    return (
        _request(method, tape["url"], init["headers"], init["body"]),
        _response(response["status"], response["headers"], response["body"]),
    )


def _request(method: Node, url: Node, headers: Node, body: Node) -> HttpRequest:
    try:
        parts = urlsplit(url.of(str))
    except ValueError as error:
        raise Malformed(f"{url.where} should be a URL but is {url.value!r}") from error
    joined: dict[str, str] = {}
    for name, value in _headers(headers):
        joined[name] = f"{joined[name]}, {value}" if name in joined else value
    content = _body(body)[0]
    return HttpRequest(method.of(str).upper(), parts.path or "/", parts.query, joined, content)


def _response(status: Node, headers: Node, body: Node) -> RecordedResponse:
    if status.of(int) not in _STATUSES:
        raise Malformed(f"{status.where} should be from 200 to 599 but is {status.value}")
    pairs = tuple(_headers(headers))
    content, is_text = _body(body)
    encoding = dict(pairs).get("content-encoding", "").lower().removeprefix("x-")
    # Recorders decode bodies and leave the header; what came out as text is not encoded.
    if is_text or encoding == "identity" or not content:
        encoding = ""
    elif encoding == "gzip":
        encoding = _checked_gzip(body, content)
    return RecordedResponse(status.value, pairs, content, encoding)


def _checked_gzip(body: Node, content: bytes) -> str:
    if not content.startswith(_GZIP_MAGIC):
        return ""
    try:
        gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise Malformed(f"{body.where} should be whole gzip data: {error}") from error
    return "gzip"


def _headers(headers: Node) -> Iterator[tuple[str, str]]:
    if headers.value is None:
        return
    for name, values in headers.of(dict).items():
        where = f"{headers.where}.{name}"
        for value in values if isinstance(values, list) else [values]:
            text = str(value).strip()
            if not _HEADER_NAME.fullmatch(str(name).lower()) or _CONTROL.search(text):
                raise Malformed(f"{where} should be a header but is {value!r}")
            yield str(name).lower(), text


def _body(body: Node) -> tuple[bytes, bool]:
    """The bytes of a body, and whether the recorder took them for text."""
    value = body.value
    if isinstance(value, dict) and value.keys() <= _WRAPPED:
        if "base64_string" in value:
            return _base64(body["base64_string"], body["base64_string"].of(str)), False
        if "string" in value:
            body = body["string"]
            value = body.value
    if value is None:
        return b"", True
    if isinstance(value, bytes):
        return value, False
    if isinstance(value, str):
        if value.startswith(_TAPE_BYTES):
            return _base64(body, value.removeprefix(_TAPE_BYTES)), False
        # JSON documents may hold half of a surrogate pair.
        return value.encode("utf-8", "surrogatepass"), True
    try:
        return wire.compact(value), True
    except TypeError as error:
        raise Malformed(f"{body.where} should be text, bytes or JSON values: {error}") from error


def _base64(body: Node, text: str) -> bytes:
    try:
        return b64decode(text, validate=True)
    except ValueError as error:
        raise Malformed(f"{body.where} should be base64: {error}") from error
