"""``POST /v1/audio/speech`` and ``GET /v1/voices``."""

from __future__ import annotations

from base64 import b64encode
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from aideon_testing import responses, sounds, wire
from aideon_testing.endpoints.bodies import Body
from aideon_testing.endpoints.lists import Query
from aideon_testing.faults import Failure
from aideon_testing.models import is_a, is_own
from aideon_testing.routes import Route
from aideon_testing.script import pieces

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Collection, Sequence

    from aideon_testing.connection import HttpResponse
    from aideon_testing.routes import Call

_SECONDS_PER_WORD: Final = 0.3
_TYPES: Final = {"mp3": "audio/mpeg", "wav": "audio/wav", "raw": "application/octet-stream"}
_BIT_RATES: Final = (32000, 64000, 96000, 128000, 192000)
_LOWEST_RATE: Final = 8000
_HIGHEST_RATE: Final = 48000
# These take no wishes: they speak at one rate and in one encoding.
_SET_RATE: Final = {"hexgrad/Kokoro-82M": 24000, "canopylabs/orpheus-3b-0.1-ft": 24000}
_SET_ENCODING: Final = "pcm_s16le"

_VOICES: Final = {
    "hexgrad/Kokoro-82M": ("af_alloy", "af_bella", "af_heart"),
    "canopylabs/orpheus-3b-0.1-ft": ("tara",),
    "cartesia/sonic": ("friendly sidekick", "laidback woman"),
    "cartesia/sonic-2": ("friendly sidekick", "laidback woman"),
    "cartesia/sonic-3": ("friendly sidekick", "laidback woman"),
}


@dataclass(frozen=True, slots=True)
class _Asked:
    """What a request asks for."""

    model: str
    text: str
    format: str
    encoding: str
    sample_rate: int
    bit_rate: int

    @classmethod
    def read(cls, body: Body, model: str) -> _Asked:
        """Check every parameter of a request."""
        text = body.prompt("input")
        body.prompt("voice")
        encoding = body.choice("response_encoding", sounds.SILENCE, "pcm_f32le")
        sample_rate = body.integer("sample_rate", _LOWEST_RATE, _HIGHEST_RATE) or 44100
        bit_rate = body.integer("bit_rate", _BIT_RATES[0]) or 128000
        audio_format = body.choice("response_format", _TYPES, "wav")
        if model in _SET_RATE:
            sample_rate, encoding = _SET_RATE[model], _SET_ENCODING
        if bit_rate not in _BIT_RATES:
            raise Failure.invalid_input()
        if audio_format == "mp3" and sample_rate not in sounds.MP3_RATES:
            raise Failure.invalid_input()
        return cls(model, text, audio_format, encoding, sample_rate, bit_rate)

    def speak(self) -> bytes:
        """The whole sound."""
        seconds = _SECONDS_PER_WORD * len(pieces(self.text))
        if self.format == "wav":
            return sounds.wav(seconds, self.sample_rate)
        if self.format == "mp3":
            return sounds.mp3(seconds, self.sample_rate, self.bit_rate)
        return sounds.raw(seconds, self.sample_rate, self.encoding)


class Speech:
    """Silence, as long as it would take to speak the text.

    Args:
        models: the ids served.
    """

    def __init__(self, models: Collection[str]) -> None:
        self._models = models

    def routes(self) -> Sequence[Route]:
        """The routes of these endpoints."""
        return (
            Route("POST", "/v1/audio/speech", self._create),
            Route("GET", "/v1/voices", self._voices),
        )

    async def _create(self, call: Call) -> HttpResponse:
        body = Body(call.json())
        asked = _Asked.read(body, body.model(self._models, "audio"))
        if body.flag("stream"):
            if asked.format != "raw":
                message = "Streamed speech is raw: set 'response_format' to 'raw'."
                raise Failure.error(400, message, param="response_format")
            return responses.streamed(call.stamp, _frames(asked))
        content = asked.speak()
        headers = wire.api_headers(call.stamp, content)
        headers |= wire.call_headers(call.stamp) | {"content-type": _TYPES[asked.format]}
        return responses.whole(200, headers, content)

    async def _voices(self, call: Call) -> HttpResponse:
        wanted = Query(call).text("model")
        rows = [
            {"model": model, "voices": [{"id": voice, "name": voice} for voice in voices]}
            for model, voices in _voices_of(self._models).items()
            if wanted in ("", model)
        ]
        return responses.answered(call.stamp, {"data": rows})


def _voices_of(models: Collection[str]) -> dict[str, tuple[str, ...]]:
    speaking = (model for model in models if is_a(model, "audio") and not is_own(model))
    return {model: _VOICES[model] for model in speaking}


async def _frames(asked: _Asked) -> AsyncGenerator[bytes, None]:
    """The sound, a word at a time."""
    word = sounds.raw(_SECONDS_PER_WORD, asked.sample_rate, asked.encoding)
    frame = {
        "object": "audio.tts.chunk",
        "model": asked.model,
        "b64": b64encode(word).decode(),
    }
    event = b"data: " + wire.compact(frame) + b"\n\n"
    for _ in pieces(asked.text):
        yield event
    yield wire.DONE
