"""Files in messages, read into text: no side reads files, so every model gets their words."""

from __future__ import annotations

import base64
import binascii
import codecs
import hashlib
import html
import io
import re
import time
from typing import TYPE_CHECKING, Any, Final, NoReturn

from aideon_core.errors import BadRequest, MissingDependency

if TYPE_CHECKING:
    from collections.abc import Iterable

    from aideon_core.types import Json

MOST_BYTES: Final = 20 * 1024 * 1024
"""The largest file that is read."""

# Far more than any model's context: what is longer is a mistake, or an attack.
_MOST_CHARACTERS: Final = 4_000_000
_MOST_PAGES: Final = 2_000
_MOST_PAGE_BYTES: Final = 16 * 1024 * 1024
# A thousand pages take less; what draws itself over and over has no bound of its own.
_MOST_SECONDS: Final = 60.0
# An agent sends its whole conversation again with every step.
_KEPT: Final = 8
_kept: dict[bytes, str] = {}

# Where readers look for it: mail gateways put lines of their own first.
_PDF_BEGINS_WITHIN: Final = 1024
_BOMS: Final = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_NOT_IN_TEXT: Final = re.compile(r"[\x00-\x08\x0e-\x1a\x1c-\x1f]")


def as_text(parts: Iterable[Json], where: str) -> tuple[Json, ...]:
    """Content parts with every file among them read into a text part.

    A file is ``{"type": "file", "file": {"file_data": ..., "filename": ...}}`` with a data URL
    or plain base64. PDF is read by pypdf, and text of any kind, such as CSV, Markdown or JSON,
    as it is; which of them a file is, its bytes tell.

    Args:
        parts: OpenAI content parts.
        where: the message they are in, for errors.

    Raises:
        BadRequest: a file is not there itself, is too large, is damaged or encrypted, has no
            text, or is neither PDF nor text.
        MissingDependency: a PDF file, and pypdf is not installed.
    """
    return tuple(_text_part(part, where) if part.get("type") == "file" else part for part in parts)


def _text_part(part: Json, where: str) -> Json:
    file = part.get("file")
    fields: Json = file if isinstance(file, dict) else {}
    name = fields.get("filename")
    name = name if isinstance(name, str) else ""
    shown = f"{where} has a file{f' {name!r}' if name else ''} that"
    data = _bytes(fields.get("file_data"), shown, where)
    if b"%PDF-" in data[:_PDF_BEGINS_WITHIN]:
        text = _pdf_text(data, shown, where)
    elif name.lower().endswith(".pdf"):
        _refuse(f"{shown} is no PDF.", "It was damaged or named wrongly before it came.", where)
    else:
        text = _decoded(data, shown, where)
    named = f' name="{html.escape(name)}"' if name else ""
    return {"type": "text", "text": f"<document{named}>\n{text.strip()}\n</document>\n"}


def _refuse(message: str, hint: str, where: str, cause: BaseException | None = None) -> NoReturn:
    raise BadRequest(message, hint=hint, param=f"{where}.content") from cause


def _bytes(file_data: object, shown: str, where: str) -> bytes:
    if not isinstance(file_data, str) or not file_data:
        _refuse(
            f"{shown} is only referred to.",
            "Send the file itself: its bytes in base64 as file_data. Nothing is fetched.",
            where,
        )
    encoded = file_data
    if file_data[:5].lower() == "data:":
        head, comma, encoded = file_data.partition(",")
        if not comma or not head.lower().endswith(";base64"):
            _refuse(
                f"{shown} is in a data URL without base64.",
                'It begins, for example, with "data:application/pdf;base64,".',
                where,
            )
    encoded = "".join(encoded.split())
    if len(encoded.rstrip("=")) * 3 // 4 > MOST_BYTES:
        _refuse(
            f"{shown} has more than {MOST_BYTES // 1024**2} MB.",
            "Send the part of it that matters.",
            where,
        )
    try:
        data = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError) as error:
        _refuse(f"{shown} is not base64: {error}.", "Encode its bytes with base64.", where, error)
    if not data:
        _refuse(f"{shown} is empty.", "Leave it out.", where)
    return data


def _decoded(data: bytes, shown: str, where: str) -> str:
    encoding = next((name for bom, name in _BOMS if data.startswith(bom)), "utf-8")
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        _refuse(
            f"{shown} is neither PDF nor text in UTF-8.",
            "Save it as PDF or as text, or send what it says.",
            where,
            error,
        )
    if _NOT_IN_TEXT.search(text):
        _refuse(
            f"{shown} is neither PDF nor text.",
            "Save it as PDF or as text, or send what it says.",
            where,
        )
    if len(text) > _MOST_CHARACTERS:
        _refuse(f"{shown} has {len(text)} characters.", "Send the part that matters.", where)
    return text


def _pdf_text(data: bytes, shown: str, where: str) -> str:
    digest = hashlib.sha256(data).digest()
    text = _kept.get(digest)
    if text is None:
        text = _Pdf(data, shown, where).text()
        for oldest in list(_kept)[: max(0, len(_kept) - _KEPT + 1)]:
            _kept.pop(oldest, None)
        _kept[digest] = text
    return text


class _TooMuchError(Exception):
    """A PDF asks for more than a document can need."""


class _Pdf:
    """A PDF file, and the limits it is read within."""

    def __init__(self, data: bytes, shown: str, where: str) -> None:
        self._data = data
        self._shown = shown
        self._where = where
        self._ends = time.monotonic() + _MOST_SECONDS

    def text(self) -> str:
        """What its pages say, an empty line between them."""
        try:
            from pypdf import PasswordType, PdfReader
        except ImportError as error:
            raise MissingDependency(
                f"{self._shown} is a PDF, which pypdf reads, and pypdf is not installed.",
                hint="pip install 'aideon-core[pdf]'",
                param=f"{self._where}.content",
            ) from error
        try:
            reader = PdfReader(io.BytesIO(self._data))
            locked = reader.is_encrypted and reader.decrypt("") is PasswordType.NOT_DECRYPTED
            text = "" if locked else self._pages(reader)
        except _TooMuchError as error:
            _refuse(f"{self._shown} {error}", "Send the part that matters.", self._where, error)
        except Exception as error:  # noqa: BLE001 - damage shows as any of Python's errors
            self._unreadable(error)
        if locked:
            _refuse(f"{self._shown} is encrypted.", "Save it without a password.", self._where)
        if not text.strip():
            _refuse(
                f"{self._shown} is a PDF without text, such as a scan.",
                "Send its pages as images, or read them with OCR first.",
                self._where,
            )
        return text

    def _unreadable(self, error: Exception) -> NoReturn:
        from pypdf.errors import DependencyError, FileNotDecryptedError

        if isinstance(error, DependencyError | FileNotDecryptedError):
            message, hint = "is encrypted.", "Save it without encryption."
        else:
            message = f"cannot be read as a PDF: {type(error).__name__}, {error}"
            hint = "It is damaged, or cut off; save it anew."
        _refuse(f"{self._shown} {message}", hint, self._where, error)

    def _pages(self, reader: Any) -> str:  # noqa: ANN401 - imported only when one is read
        if len(reader.pages) > _MOST_PAGES:
            raise _TooMuchError(f"has {len(reader.pages)} pages.")
        texts: list[str] = []
        length = 0
        for page in reader.pages:
            drawn = page.get_contents()
            if drawn is not None and len(drawn.get_data()) > _MOST_PAGE_BYTES:
                raise _TooMuchError("has a page that is drawn in too much detail.")
            text = page.extract_text(visitor_operand_before=self._check)
            # pypdf turns what is raised inside a nested drawing into a line in its log.
            self._check()
            length += len(text)
            if length > _MOST_CHARACTERS:
                raise _TooMuchError(f"has more than {_MOST_CHARACTERS} characters.")
            texts.append(text.strip())
        # Half of a pair, from a broken font table, is no character.
        joined = "\n\n".join(texts)
        return joined.encode("utf-16", "surrogatepass").decode("utf-16", "replace")

    def _check(self, *_: object) -> None:
        if time.monotonic() > self._ends:
            raise _TooMuchError(f"takes more than {_MOST_SECONDS:g} s to read.")
