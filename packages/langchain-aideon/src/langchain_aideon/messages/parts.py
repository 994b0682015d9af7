"""LangChain's content blocks as the content parts that models here read.

Blocks come in four dialects: LangChain's own of today (v1) and of before (v0), the parts of
OpenAI's chat completions, and Anthropic's. Markers such as ``cache_control`` are left behind.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, NoReturn

from aideon_core import documents
from aideon_core.errors import BadRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from aideon_core.types import Json

# How a model came to its words: it is no part of them, and no model takes another's.
_UNSAID: Final = frozenset(
    {"reasoning", "reasoning_content", "thinking", "redacted_thinking", "input_json_delta"}
)
_MEDIA_URL: Final = {"image": "image_url", "video": "video_url", "audio": "audio_url"}
_AUDIO_FORMATS: Final = {"mpeg": "mp3", "vnd.wave": "wav", "wave": "wav", "x-wav": "wav"}
_URLS: Final = ("http://", "https://", "data:")


def parts_of(content: str | Iterable[str | dict[Any, Any]], where: str) -> tuple[Json, ...]:
    """Content as OpenAI parts: ``text``, and media; files have become their text.

    Args:
        content: a message's content, text or blocks; empty texts are left out.
        where: the message, for errors, such as ``messages[2]``.

    Raises:
        BadRequest: a block is of no kind that can be sent, lacks what it needs, or refers to
            a file that is stored elsewhere.
    """
    blocks = [content] if isinstance(content, str) else content
    parts = [part for block in blocks for part in _parts(block, where)]
    if any(part["type"] == "file" for part in parts):
        return documents.as_text(parts, where)
    return tuple(parts)


def refuse(where: str, kind: object, problem: str, hint: str) -> NoReturn:
    """Say which block of which message cannot be sent, and what to do about it."""
    raise BadRequest(
        f"{where} has a block of type {kind!r} {problem}.", hint=hint, param=f"{where}.content"
    )


def _parts(block: str | Mapping[str, Any], where: str) -> Iterable[Json]:
    if isinstance(block, str):
        return _text(block)
    kind = block.get("type")
    if kind in _UNSAID:
        return ()
    read = _READERS.get(str(kind))
    if read is None:
        refuse(
            where,
            kind,
            "that has no place here",
            "Say it in blocks of type text, image, audio, video or file.",
        )
    return read(block, where)


def _text(text: str) -> Iterable[Json]:
    # Some servers refuse an empty text.
    return ({"type": "text", "text": text},) if text else ()


def _text_block(block: Mapping[str, Any], where: str) -> Iterable[Json]:
    text = block.get("refusal" if block["type"] == "refusal" else "text")
    if not isinstance(text, str):
        refuse(where, block["type"], "without a text", 'Give it as "text".')
    return _text(text)


def _openai_media(block: Mapping[str, Any], where: str) -> Iterable[Json]:
    kind = block["type"]
    given = block.get(kind)
    media = {"url": given} if isinstance(given, str) else given
    if not isinstance(media, dict):
        refuse(where, kind, "without an address", f'Give {{"url": ...}} as {kind!r}.')
    _check_url(media.get("url"), kind, where)
    kept = {name: media[name] for name in ("url", "detail") if media.get(name) is not None}
    return ({"type": kind, kind: kept},)


def _input_audio(block: Mapping[str, Any], where: str) -> Iterable[Json]:
    audio = block.get("input_audio")
    fields = audio if isinstance(audio, dict) else {}
    data, form = fields.get("data"), fields.get("format")
    if not isinstance(data, str) or not isinstance(form, str):
        refuse(
            where,
            "input_audio",
            "without data or format",
            'Give base64 as "data" and, for example, "wav" as "format".',
        )
    return ({"type": "input_audio", "input_audio": {"data": data, "format": form}},)


@dataclass(frozen=True, slots=True)
class _Source:
    """Where a block has its data, in whichever dialect it says so."""

    form: Literal["base64", "url", "text", "content", "id", "none"]
    value: Any = None
    mime_type: str = ""


def _source(block: Mapping[str, Any]) -> _Source:
    source = block.get("source")
    if isinstance(source, dict):
        block, given = source, source.get("type")
        mime_type = str(source.get("media_type") or "")
    else:
        given = block.get("source_type")
        mime_type = str(block.get("mime_type") or "")
    data = block.get("data") if given in ("base64", "text") else None
    if isinstance(found := block.get("base64") or data, str) and given != "text":
        return _Source("base64", found, mime_type)
    if isinstance(found := block.get("text") or data, str):
        return _Source("text", found, mime_type)
    if (found := block.get("content")) is not None:
        return _Source("content", found)
    if isinstance(found := block.get("url"), str):
        return _Source("url", found, mime_type)
    if block.get("file_id") or given == "id":
        return _Source("id")
    return _Source("none")


def _media(block: Mapping[str, Any], where: str) -> Iterable[Json]:
    kind, source = block["type"], _source(block)
    if source.form == "url":
        _check_url(source.value, kind, where)
        return (_located(kind, source.value, block),)
    if source.form != "base64":
        _refuse_absent(source, kind, where)
    if "/" not in source.mime_type:
        refuse(
            where,
            kind,
            "without a mime_type",
            f'Say what its bytes are, for example "{_EXAMPLES[kind]}".',
        )
    if kind == "audio":
        form = source.mime_type.split(";")[0].split("/")[1].lower()
        audio = {"data": source.value, "format": _AUDIO_FORMATS.get(form, form)}
        return ({"type": "input_audio", "input_audio": audio},)
    return (_located(kind, f"data:{source.mime_type};base64,{source.value}", block),)


def _located(kind: str, url: str, block: Mapping[str, Any]) -> Json:
    media = {"url": url}
    detail = block.get("detail") or (block.get("extras") or {}).get("detail")
    if kind == "image" and isinstance(detail, str):
        media["detail"] = detail
    return {"type": _MEDIA_URL[kind], _MEDIA_URL[kind]: media}


def _file(block: Mapping[str, Any], where: str) -> Iterable[Json]:
    if isinstance(file := block.get("file"), dict):
        return ({"type": "file", "file": file},)
    kind, source = block["type"], _source(block)
    main = source.mime_type.split("/")[0]
    if main in _MEDIA_URL and source.form in ("base64", "url"):
        return _media({**block, "type": main}, where)
    if source.form == "url" and source.value.startswith("data:"):
        data = source.value
    elif source.form == "base64":
        data = f"data:{source.mime_type};base64,{source.value}"
    elif source.form == "text":
        return _text(_titled(block, source.value))
    elif source.form == "content":
        return (*_text(_titled(block, "")), *parts_of(source.value, where))
    else:
        _refuse_absent(source, kind, where)
    return ({"type": "file", "file": {"file_data": data, "filename": _name(block)}},)


def _titled(block: Mapping[str, Any], text: str) -> str:
    heads = (block.get("title"), block.get("context"), text)
    return "\n\n".join(head for head in heads if isinstance(head, str) and head)


def _name(block: Mapping[str, Any]) -> str:
    for holder in (block, block.get("extras"), block.get("metadata")):
        for key in ("filename", "file_filename", "name", "title"):
            if isinstance(holder, dict) and isinstance(name := holder.get(key), str):
                return name
    return ""


def _refuse_absent(source: _Source, kind: str, where: str) -> NoReturn:
    if source.form in ("id", "url"):
        refuse(
            where,
            kind,
            "that refers to a file stored elsewhere",
            "Send the file itself, as base64 with its mime_type; nothing is fetched.",
        )
    refuse(where, kind, "without data", "Give base64 with its mime_type, or for media a url.")


def _check_url(url: object, kind: str, where: str) -> None:
    if not isinstance(url, str) or not url.lower().startswith(_URLS):
        refuse(
            where,
            kind,
            f"at {url!r:.80}, which no model can reach",
            "Give an http(s) address or a data URL.",
        )


def _wrapped(block: Mapping[str, Any], where: str) -> Iterable[Json]:
    value = block.get("value")
    if not isinstance(value, dict) or value.get("type") == "non_standard":
        refuse(where, "non_standard", "without a block in it", "Leave it out.")
    return _parts(value, where)


_EXAMPLES: Final = {"image": "image/png", "audio": "audio/wav", "video": "video/mp4"}
_READERS: Final[Mapping[str, Callable[[Mapping[str, Any], str], Iterable[Json]]]] = {
    "text": _text_block,
    "input_text": _text_block,
    "output_text": _text_block,
    "refusal": _text_block,
    "text-plain": _file,
    "image": _media,
    "audio": _media,
    "video": _media,
    "file": _file,
    "document": _file,
    "search_result": _file,
    "image_url": _openai_media,
    "audio_url": _openai_media,
    "video_url": _openai_media,
    "input_audio": _input_audio,
    "non_standard": _wrapped,
}
