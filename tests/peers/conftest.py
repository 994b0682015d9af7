"""What the tests of other people's clients share: a server whose every exchange is checked.

Each request and each response of each test in this folder is held against Together's published
OpenAPI document, read in place where it lies beside the repository. Where real traffic is not
as the document says, deviations.yaml says so; anything else fails the test.
"""

from __future__ import annotations

import inspect
import json
import re
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from email import message_from_bytes
from email.policy import HTTP
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

import pytest
import yaml
from jsonschema import Draft202012Validator
from jsonschema.validators import extend
from referencing import Registry
from referencing.jsonschema import DRAFT202012

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping

    from jsonschema import ValidationError

    from aideon_testing import HttpRequest, LoopbackTogether
    from aideon_testing.connection import HttpResponse

HERE = Path(__file__).parent
PUBLISHED = HERE.parents[1].parent / "shared/together/openapi.yaml"

_URI = "urn:published"
_METHODS = {"get", "post", "put", "patch", "delete"}
_NULL = {"type": "null"}
_KINDS = {str: "text", bool: "a boolean", int: "a number", float: "a number", bytes: "bytes"}
_KINDS |= {list: "an array", dict: "an object", type(None): "null"}
# A part of a form that is a file is bytes, and no text.
_Validator = extend(
    Draft202012Validator,
    type_checker=Draft202012Validator.TYPE_CHECKER.redefine(
        "binary", lambda _, value: isinstance(value, bytes)
    ),
)

# One model of each engine that real traffic has shown, each with its own way of speaking.
ENGINES = (
    "Qwen/Qwen2.5-7B-Instruct-Turbo",
    "Qwen/Qwen3-235B-A22B-Instruct-2507-tput",
    "Qwen/Qwen3-235B-A22B-Thinking-2507",
    "Qwen/Qwen3-235B-A22B-fp8-tput",
    "Qwen/Qwen3-Coder-480B-A35B-Instruct-FP8",
    "Qwen/Qwen3-Next-80B-A3B-Thinking",
    "Qwen/Qwen3-VL-32B-Instruct",
    "Qwen/Qwen3.5-397B-A17B",
    "ServiceNow-AI/Apriel-1.6-15b-Thinker",
    "arcee-ai/trinity-mini",
    "deepcogito/cogito-v2-1-671b",
    "deepseek-ai/DeepSeek-R1",
    "deepseek-ai/DeepSeek-V3.1",
    "deepseek-ai/DeepSeek-V4-Pro",
    "essentialai/rnj-1-instruct",
    "google/gemma-3-27b-it",
    "meta-llama/Llama-3.3-70B-Instruct-Turbo",
    "meta-llama/Llama-4-Scout-17B-16E-Instruct",
    "meta-llama/Llama-Vision-Free",
    "mistralai/Mistral-7B-Instruct-v0.2",
    "mistralai/Mistral-Small-24B-Instruct-2501",
    "moonshotai/Kimi-K2-Instruct",
    "moonshotai/Kimi-K2-Thinking",
    "nvidia/NVIDIA-Nemotron-Nano-9B-v2",
    "openai/gpt-oss-120b",
    "zai-org/GLM-4.6",
)


@dataclass(frozen=True)
class Exchange:
    """A request and what was sent for it, as far as it was sent."""

    request: HttpRequest
    status: int
    headers: Mapping[str, str]
    sent: bytearray = field(default_factory=bytearray)

    @property
    def content_type(self) -> str:
        return self.headers.get("content-type", "").partition(";")[0]

    @property
    def whole(self) -> bool:
        return len(self.sent) == int(self.headers["content-length"])


class Published:
    """The published document: says of an exchange where it is not as published."""

    def __init__(self, document: dict[str, Any]) -> None:
        self._document = _strict(document)
        resource = DRAFT202012.create_resource(self._document)
        self._registry = Registry().with_resource(_URI, resource)
        self._operations = [
            (method.upper(), path, operation)
            for path, item in self._document["paths"].items()
            for method, operation in item.items()
            if method in _METHODS
        ]

    def deviations(self, exchange: Exchange) -> Iterator[str]:
        """Every place where the exchange is not as published, with what is there instead."""
        name, operation = self._operation(exchange.request)
        if operation is None:
            # What is served nowhere is refused; that is an answer too.
            if exchange.status not in {404, 405}:
                yield f"{name}: unpublished"
            return
        if exchange.status < 400:
            yield from self._of_request(name, operation, exchange.request)
        yield from self._of_response(name, operation, exchange)

    def _operation(self, request: HttpRequest) -> tuple[str, dict[str, Any] | None]:
        asked = re.sub(r"^(?:/v1)+(?=/)", "", request.path)
        # A path without parameters goes before one with: /models/x is not /models/{id}.
        for method, path, operation in sorted(self._operations, key=lambda row: "{" in row[1]):
            pattern = re.sub(r"\{\w+\}", "[^/]+", path)
            if method == request.method and re.fullmatch(pattern, asked):
                return f"{method} {path}", operation
        generic = re.sub(r"/(?=[^/]*\d)(?!v\d/)[^/]+", "/{id}", asked)
        return f"{request.method} {generic}", None

    def _of_request(
        self, name: str, operation: dict[str, Any], request: HttpRequest
    ) -> Iterator[str]:
        known = {row["name"] for row in operation.get("parameters", ()) if row["in"] == "query"}
        yield from (
            f"{name}?{key}: unknown" for key, _ in parse_qsl(request.query) if key not in known
        )
        content = operation.get("requestBody", {}).get("content", {})
        content_type = request.headers.get("content-type", "").partition(";")[0]
        if not content:
            if request.content not in {b"", b"{}"}:
                yield f"{name}: a body"
        elif content_type not in content:
            yield f"{name}: {content_type}"
        elif content_type == "multipart/form-data":
            yield from self._of_value(content[content_type]["schema"], name, _form(request))
        else:
            yield from self._of_value(content[content_type]["schema"], name, request.body)

    def _of_response(
        self, name: str, operation: dict[str, Any], exchange: Exchange
    ) -> Iterator[str]:
        response = operation["responses"].get(str(exchange.status))
        if response is None and exchange.status < 400:
            yield f"{name} {exchange.status}: unpublished"
            return
        # An error that the operation does not name is still one of the API's errors.
        usual = {"application/json": {"schema": {"$ref": f"{_URI}#/components/schemas/ErrorData"}}}
        content = usual if response is None else response.get("content", {})
        where = f"{name} {exchange.status}"
        if not content:
            if exchange.sent:
                yield f"{where}: a body"
        elif exchange.content_type not in content:
            yield f"{where}: {exchange.content_type}"
        else:
            schema = content[exchange.content_type]["schema"]
            for value in _values(exchange):
                yield from self._of_value(schema, where, value)

    def _of_value(self, schema: dict[str, Any], name: str, value: object) -> Iterator[str]:
        for error in _Validator(schema, registry=self._registry).iter_errors(value):
            for leaf in _leaves(error):
                where = self._place(schema, name, list(leaf.absolute_schema_path))
                yield from (f"{where}{what}" for what in _what(leaf))

    def _place(self, node: Any, name: str, path: list[str | int]) -> str:
        """Where in the document: from the last named schema on."""
        for index, key in enumerate(path):
            while isinstance(node, dict) and "$ref" in node and key not in node:
                pointer = node["$ref"].removeprefix(f"{_URI}#")
                name, node = pointer.rpartition("/")[2], self._at(pointer)
            node = node[key]
            before = path[index - 1] if index else None
            if before == "properties":
                name += f".{key}"
            elif key == "items":
                name += "[]"
        return name

    def _at(self, pointer: str) -> Any:
        node = self._document
        for key in pointer.strip("/").split("/"):
            node = node[key]
        return node


def _strict(node: Any) -> Any:
    """The document as plain JSON Schema, with every object closed that lists its properties."""
    if isinstance(node, list):
        return [_strict(value) for value in node]
    if not isinstance(node, dict):
        return node
    schema = {key: _strict(value) for key, value in _nullable(node).items()}
    if isinstance(reference := schema.get("$ref"), str) and reference.startswith("#"):
        schema["$ref"] = _URI + reference
    if schema.get("format") == "binary":
        return {"type": "binary"}
    if isinstance(schema.get("properties"), dict) and "type" in schema:
        schema.setdefault("additionalProperties", False)
    return schema


def _nullable(schema: dict[str, Any]) -> dict[str, Any]:
    """OpenAPI 3.0 says ``nullable`` where JSON Schema has a type."""
    null = {"nullable": True}
    members = schema.get("allOf", [])
    if null in members:
        (schema,) = (member for member in members if member != null)
    elif schema.get("nullable") is not True:
        return schema
    schema = {key: value for key, value in schema.items() if key != "nullable"}
    if isinstance(schema.get("type"), str):
        schema |= {"type": [schema["type"], "null"]}
        return schema | ({"enum": [*schema["enum"], None]} if "enum" in schema else {})
    return {"anyOf": [schema, _NULL]}


def _leaves(error: ValidationError) -> list[ValidationError]:
    """What is wrong, told for the alternative that the value comes nearest to."""
    branches: dict[str | int, list[ValidationError]] = {}
    for cause in error.context or ():
        if cause.schema != _NULL:
            branches.setdefault(cause.relative_schema_path[0], []).extend(_leaves(cause))
    if not branches:
        return [error]
    depth = len(error.absolute_path) + 1

    def distance(leaves: list[ValidationError]) -> tuple[int, int, int]:
        # What names the kind counts most, then what is of another type, then everything.
        near = [leaf.validator for leaf in leaves if len(leaf.absolute_path) <= depth]
        return near.count("enum") + near.count("const"), near.count("type"), len(leaves)

    return min(branches.values(), key=distance)


def _what(error: ValidationError) -> list[str]:
    if error.validator == "required":
        return [f".{name}: missing" for name in error.validator_value if name not in error.instance]
    if error.validator == "additionalProperties":
        known = error.schema["properties"]
        return [f".{name}: unknown" for name in error.instance if name not in known]
    if error.validator in {"enum", "const"} and isinstance(error.instance, str):
        return [f": {error.instance!r}"]
    if error.validator in {"type", "enum", "const"}:
        return [f": {_KINDS[type(error.instance)]}"]
    return [f": {error.validator}"]


def _values(exchange: Exchange) -> Iterator[object]:
    """What a response says: its JSON, or its events one by one; nothing of a broken-off one."""
    if exchange.content_type == "text/event-stream":
        *events, _ = bytes(exchange.sent).split(b"\n\n")
        for event in events:
            data = event.removeprefix(b"data: ")
            yield {"data": "[DONE]" if data == b"[DONE]" else json.loads(data)}
    elif exchange.content_type == "application/json" and exchange.whole:
        yield json.loads(exchange.sent)


def _form(request: HttpRequest) -> dict[str, object]:
    """A multipart form as the JSON it stands for."""
    head = f"content-type: {request.headers['content-type']}\r\n\r\n".encode()
    form: dict[str, Any] = {}
    for part in message_from_bytes(head + request.content, policy=HTTP).iter_parts():
        key = part.get_param("name", header="content-disposition")
        value: Any = part.get_payload(decode=True)
        if part.get_filename() is None:
            value = value.decode()
            if re.fullmatch(r"true|false|-?\d+(\.\d+)?", value):
                value = json.loads(value)
        if key.endswith("[]"):
            form.setdefault(key.removesuffix("[]"), []).append(value)
        else:
            form[key] = value
    return form


@pytest.fixture(scope="session")
def published() -> Published | None:
    """The published document, ``None`` where it does not lie beside the repository."""
    if not PUBLISHED.exists():
        return None
    return Published(yaml.load(PUBLISHED.read_text("utf-8"), yaml.CSafeLoader))


@pytest.fixture(scope="session")
def known() -> list[dict[str, Any]]:
    """The known deviations: where, what is there instead, and the evidence."""
    return yaml.safe_load((HERE / "deviations.yaml").read_text("utf-8"))


@pytest.fixture(scope="session")
def engines() -> tuple[str, ...]:
    """One model of each engine."""
    return ENGINES


@pytest.fixture
def exchanges(together: LoopbackTogether, monkeypatch: pytest.MonkeyPatch) -> list[Exchange]:
    """Every exchange of the test's server."""
    exchanges: list[Exchange] = []
    respond: Callable[[HttpRequest], Awaitable[HttpResponse]] = together._service.respond

    async def watched(request: HttpRequest) -> HttpResponse:
        response = await respond(request)
        exchange = Exchange(request, response.status, dict(response.pairs))
        exchanges.append(exchange)
        return replace(response, body=_kept(exchange, response.body))

    monkeypatch.setattr(together._service, "respond", watched)
    return exchanges


async def _kept(
    exchange: Exchange, body: AsyncGenerator[bytes, None]
) -> AsyncGenerator[bytes, None]:
    async with aclosing(body):
        async for part in body:
            exchange.sent.extend(part)
            yield part


@pytest.fixture(autouse=True)
def _as_published(request, published, known) -> Iterator[None]:
    """Every exchange of every test with a server is as published, or known not to be."""
    if published is None or "together" not in request.fixturenames:
        yield
        return
    exchanges = request.getfixturevalue("exchanges")
    yield
    expected = {entry["at"] for entry in known}
    found = {what for exchange in exchanges for what in published.deviations(exchange)}
    assert found <= expected, f"Not as published: {sorted(found - expected)}"


@pytest.fixture
def settled() -> Callable[[Any], Awaitable[Any]]:
    """What a call of an SDK gives, awaited where it is to be."""

    async def settled(value: Any) -> Any:
        return await value if inspect.isawaitable(value) else value

    return settled


@pytest.fixture
def pieces_of() -> Callable[..., Awaitable[list[Any]]]:
    """Every piece of a stream, sync or async."""

    async def pieces_of(stream: Any, pieces: list[Any] | None = None) -> list[Any]:
        """Read to the end; ``pieces`` keeps what came before an error."""
        pieces = [] if pieces is None else pieces
        if hasattr(stream, "__aiter__"):
            async for piece in stream:
                pieces.append(piece)
        else:
            for piece in stream:
                pieces.append(piece)
        return pieces

    return pieces_of
