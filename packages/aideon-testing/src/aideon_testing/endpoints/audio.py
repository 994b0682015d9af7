"""``POST /v1/audio/transcriptions`` and ``/v1/audio/translations``."""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Final, TypeVar

from aideon_core.types import Completion
from aideon_testing import responses, sounds
from aideon_testing.endpoints.transcripts import Transcript
from aideon_testing.faults import BrokenOff, Failure
from aideon_testing.models import is_a
from aideon_testing.multipart import parse
from aideon_testing.routes import Route
from aideon_testing.script import pieces

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from aideon_core.types import Chunk
    from aideon_testing.answers import Answerer
    from aideon_testing.connection import HttpResponse
    from aideon_testing.multipart import Form, FormFile
    from aideon_testing.routes import Call

_T = TypeVar("_T", int, float)

_MODEL: Final = "openai/whisper-large-v3"
_MOST_BYTES: Final = 80 * 1024 * 1024
_MOST_SECONDS: Final = 4 * 60 * 60
_SECONDS_PER_WORD: Final = 0.3
_SUFFIXES: Final = (
    ".wav",
    ".mp3",
    ".m4a",
    ".webm",
    ".flac",
    ".ogg",
    ".opus",
    ".aac",
)
_GRANULARITIES: Final = ("timestamp_granularities", "timestamp_granularities[]")


@dataclass(frozen=True, slots=True)
class _Asked:
    """What a request asks for."""

    name: str
    seconds: float | None
    language: str
    prompt: str
    verbose: bool
    words: bool
    speakers: int

    @classmethod
    def read(cls, form: Form) -> _Asked:
        """Check every field of a form."""
        name, seconds = _sound(form)
        grains = [grain for field in _GRANULARITIES for grain in form.fields.get(field, ())]
        if not set(grains) <= {"segment", "word"}:
            raise _invalid("timestamp_granularities")
        if not 0 <= _number(form, "temperature", float, 0.0) <= 1:
            raise _invalid("temperature")
        fewest = _number(form, "min_speakers", int, 1)
        most = _number(form, "max_speakers", int, max(fewest, 2))
        if not 1 <= fewest <= most:
            raise _invalid("min_speakers")
        diarized = _choice(form, "diarize", ("false", "true")) == "true"
        return cls(
            name,
            seconds,
            language=form.field("language") or "en",
            prompt=form.field("prompt") or "",
            verbose=_choice(form, "response_format", ("json", "verbose_json")) != "json",
            words="word" in grains,
            speakers=max(fewest, min(most, 2)) if diarized else 0,
        )


class Audio:
    """Sound to text: what an answerer says takes the place of what is heard.

    Args:
        answers: asked with the name of the sound file as a conversation's only message.
        models: the ids served.
    """

    def __init__(self, answers: Answerer, models: Collection[str]) -> None:
        self._answers = answers
        self._models = models

    def routes(self) -> Sequence[Route]:
        """The routes of these endpoints."""
        return (
            Route("POST", "/v1/audio/transcriptions", self._transcribe),
            Route("POST", "/v1/audio/translations", self._translate),
        )

    async def _transcribe(self, call: Call) -> HttpResponse:
        return await self._create(call, "transcribe")

    async def _translate(self, call: Call) -> HttpResponse:
        return await self._create(call, "translate")

    async def _create(self, call: Call, task: str) -> HttpResponse:
        form = parse(call.request.headers.get("content-type", ""), call.request.content)
        model = form.field("model") or _MODEL
        if model not in self._models:
            raise Failure.unknown_model(model)
        if not is_a(model, "transcribe"):
            raise _invalid("model")
        asked = _Asked.read(form)
        messages = [{"role": "user", "content": asked.name}]
        if asked.prompt:
            messages.insert(0, {"role": "system", "content": asked.prompt})
        chunks: list[Chunk] = []
        broken = False
        try:
            answer = self._answers.answer({"model": model, "messages": messages})
            async with aclosing(answer):
                chunks.extend([chunk async for chunk in answer])
        except BrokenOff:
            broken = True
        body = _body(asked, Completion.from_chunks(chunks).text, task)
        return responses.answered(call.stamp, body, broken=broken)


def _body(asked: _Asked, text: str, task: str) -> dict[str, object]:
    if not asked.verbose:
        return {"text": text}
    seconds = asked.seconds
    if seconds is None:
        seconds = _SECONDS_PER_WORD * len(pieces(text))
    transcript = Transcript(text, seconds, asked.speakers)
    body = {
        "task": task,
        "language": "en" if asked.language == "auto" else asked.language,
        "duration": seconds,
        "text": text,
        "segments": transcript.segments(),
    }
    if asked.words or asked.speakers:
        body["words"] = transcript.words()
    if asked.speakers and task == "transcribe":
        body["speaker_segments"] = transcript.speaker_segments()
    return body


def _sound(form: Form) -> tuple[str, float | None]:
    """The name of the sound, and how long it lasts where that can be told."""
    if (file := form.file("file")) is not None:
        return file.filename, _checked(file)
    address = form.field("file")
    if not address:
        raise Failure.missing("file")
    # Nothing leaves this machine, so nothing is fetched.
    if not address.startswith(("http://", "https://")):
        raise _invalid("file")
    return address, None


def _checked(file: FormFile) -> float | None:
    if len(file.content) > _MOST_BYTES:
        raise Failure.error(
            413,
            f"The file is {len(file.content)} bytes long; at most {_MOST_BYTES} can be uploaded. "
            "Give the address of a larger one.",
            type="request_too_large",
            param="file",
        )
    suffix = PurePosixPath(file.filename).suffix.lower()
    if not file.content or (suffix and suffix not in _SUFFIXES):
        message = f"'{file.filename}' is no sound file of a kind in {', '.join(_SUFFIXES)}."
        raise Failure.error(400, message, type="unsupported_format", param="file")
    seconds = sounds.seconds_of(file.content)
    if seconds is not None and seconds > _MOST_SECONDS:
        message = f"The sound lasts {seconds:.0f} s; at most {_MOST_SECONDS} s are transcribed."
        raise Failure.error(400, message, type="audio_too_long", param="file")
    return seconds


def _choice(form: Form, name: str, choices: Sequence[str]) -> str:
    """One of several words, by default the first."""
    value = form.field(name) or choices[0]
    if value not in choices:
        raise _invalid(name)
    return value


def _number(form: Form, name: str, kind: Callable[[str], _T], default: _T) -> _T:
    value = form.field(name)
    try:
        return kind(value) if value else default
    except ValueError:
        raise _invalid(name) from None


def _invalid(name: str) -> Failure:
    message = f"The value of '{name}' is not one of those allowed."
    return Failure.error(400, message, type="invalid_params", param=name)
