"""A good model to answer for the loopback server, and the files that LangChain's suites fetch.

It calls the tools it is to call and writes the JSON it is to write, with what it reads in the
prompt. So a test that fails over it fails because of the client, and says where.
"""

from __future__ import annotations

import io
import json
import re
import wave
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from langchain_tests.integration_tests import ChatModelIntegrationTests

from aideon_core.types import ToolCall
from aideon_testing import Reply, Script

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from aideon_core.types import Chunk, Json

# A 1x1 PNG; the suite's own picture lies on another host.
PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c489"
    "0000000d49444154789c6360000002000001e221bc330000000049454e44ae426082"
)


class GoodModel:
    """Does as it is asked, with the numbers and the quoted words of the last message."""

    async def answer(self, body: Json) -> AsyncGenerator[Chunk, None]:
        script = Script()
        script.reply(self._reply(body))
        async for chunk in script.answer(body):
            yield chunk

    def _reply(self, body: Json) -> Reply:
        prompt = _text(body["messages"][-1])
        tool = _tool_to_call(body)
        if tool is not None:
            written = json.dumps(_written(tool["parameters"], prompt), ensure_ascii=False)
            return Reply(tool_calls=(ToolCall("", tool["name"], written),))
        wanted = body.get("response_format") or {"type": "text"}
        if wanted["type"] == "json_schema":
            return Reply(json.dumps(_written(wanted["json_schema"]["schema"], prompt)))
        if wanted["type"] == "json_object":
            return Reply(json.dumps(dict.fromkeys(_quoted(prompt), prompt)))
        return Reply(f"You said: {prompt}")


def _tool_to_call(body: Json) -> Json | None:
    """The tool to call now: the one that is forced, else the first until it has answered."""
    tools = [tool["function"] for tool in body.get("tools") or ()]
    choice = body.get("tool_choice", "auto")
    if isinstance(choice, dict):
        return next(tool for tool in tools if tool["name"] == choice["function"]["name"])
    answered = body["messages"][-1]["role"] == "tool"
    if not tools or choice == "none" or (choice == "auto" and answered):
        return None
    return tools[0]


def _written(schema: Json, prompt: str) -> dict[str, Any]:
    """An object of the schema, with what the prompt says."""
    numbers = iter(re.findall(r"-?\d+", prompt))
    quoted = iter(_quoted(prompt))
    written = {}
    for name, field in schema.get("properties", {}).items():
        if field.get("type") in {"integer", "number"}:
            written[name] = int(next(numbers, 0))
        else:
            written[name] = next(quoted, prompt)
    return written


def _quoted(prompt: str) -> list[str]:
    return re.findall(r"'([^']+)'", prompt)


def _text(message: Json) -> str:
    content = message["content"] or ""
    if isinstance(content, str):
        return content
    return "".join(part.get("text", "") for part in content)


def fetched(url: str, **_: object) -> httpx.Response:
    """What the suite would get from another host: a document, a sound or a picture."""
    kinds = {".pdf": pdf("A dummy document."), ".wav": _silence(), ".png": PIXEL}
    return httpx.Response(200, content=kinds[url[-4:]])


def pdf(line: str) -> bytes:
    """A document of one page that says one line of plain letters."""
    drawn = f"BT /F1 18 Tf 72 720 Td ({line}) Tj ET".encode("ascii")
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 /MediaBox [0 0 612 792] >>",
        b"<< /Type /Page /Parent 2 0 R /Contents 4 0 R /Resources << /Font << /F1 5 0 R >> >> >>",
        b"<< /Length %d >>\nstream\n%s\nendstream" % (len(drawn), drawn),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    written = bytearray(b"%PDF-1.4\n")
    rows = b"0000000000 65535 f \n"
    for number, content in enumerate(objects, 1):
        rows += b"%010d 00000 n \n" % len(written)
        written += b"%d 0 obj\n%s\nendobj\n" % (number, content)
    size = len(objects) + 1
    end = b"xref\n0 %d\n%strailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n"
    return bytes(written) + end % (size, rows, size, len(written))


def _silence() -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(8000)
        sound.writeframes(bytes(1600))
    return file.getvalue()


class TextModelTests(ChatModelIntegrationTests):
    """LangChain's suite with every flag on that a model of text alone can honour.

    What the suite fetches from other hosts comes from here.
    """

    @pytest.fixture(autouse=True)
    def _files_at_hand(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(httpx, "get", fetched)

    @pytest.fixture
    def vcr(self) -> SimpleNamespace:
        """A recording that is never empty: the suite then measures a stream."""
        return SimpleNamespace(responses=["here"])

    enable_vcr_tests = True
    supports_json_mode = True
    supports_pdf_inputs = True
    supports_pdf_tool_message = True
    supports_anthropic_inputs = True


class SeeingModelTests(TextModelTests):
    """The same for a model that sees and hears as well."""

    supports_image_inputs = True
    supports_image_urls = True
    supports_image_tool_message = True
    supports_audio_inputs = True
