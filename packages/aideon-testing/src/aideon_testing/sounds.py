"""Sound files of silence: pure functions, no I/O."""

from __future__ import annotations

import io
import math
import wave
from typing import Final

SILENCE: Final = {
    "pcm_f32le": b"\0\0\0\0",
    "pcm_s16le": b"\0\0",
    "pcm_mulaw": b"\xff",
    "pcm_alaw": b"\xd5",
}
"""One sample of silence in each encoding."""

# The sample rates of MPEG 1, 2 and 2.5, with the bits that say so in the head of a frame.
_MPEG: Final = {
    0b11: (44100, 48000, 32000),
    0b10: (22050, 24000, 16000),
    0b00: (11025, 12000, 8000),
}
MP3_RATES: Final = tuple(sorted(rate for rates in _MPEG.values() for rate in rates))
"""The sample rates that an MP3 file can have."""
# Thousands of bits per second, in the order of their number in the head of a frame.
_KILOBITS_1: Final = (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
_KILOBITS_2: Final = (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)


def raw(seconds: float, sample_rate: int, encoding: str) -> bytes:
    """Samples without a file around them; see SILENCE for the encodings."""
    return SILENCE[encoding] * round(seconds * sample_rate)


def wav(seconds: float, sample_rate: int) -> bytes:
    """A WAV file: one channel, 16 bits a sample."""
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setnchannels(1)
        writer.setsampwidth(2)
        writer.setframerate(sample_rate)
        writer.writeframes(raw(seconds, sample_rate, "pcm_s16le"))
    return file.getvalue()


def mp3(seconds: float, sample_rate: int, bit_rate: int) -> bytes:
    """An MP3 file: one channel, constant bit rate.

    Args:
        seconds: at least how long.
        sample_rate: one of MP3_RATES.
        bit_rate: in bits per second; the highest possible that is no higher is taken.
    """
    version = next(bits for bits, rates in _MPEG.items() if sample_rate in rates)
    kilobits = _KILOBITS_1 if version == 0b11 else _KILOBITS_2  # noqa: PLR2004 - MPEG 1
    number = max(at for at, rate in enumerate(kilobits) if rate * 1000 <= bit_rate)
    samples = 1152 if version == 0b11 else 576  # noqa: PLR2004 - MPEG 1
    size = samples // 8 * kilobits[number] * 1000 // sample_rate
    layer_3_unchecked, one_channel = 0b011, 0b11 << 6
    rate = _MPEG[version].index(sample_rate)
    head = bytes(
        [
            0xFF,
            0b111 << 5 | version << 3 | layer_3_unchecked,
            (number + 1) << 4 | rate << 2,
            one_channel,
        ]
    )
    # A frame whose every number is zero has no sound in it.
    frame = head + bytes(size - len(head))
    return frame * math.ceil(seconds * sample_rate / samples)


def seconds_of(content: bytes) -> float | None:
    """How long a WAV file lasts, ``None`` when it is no WAV file of plain samples."""
    try:
        with wave.open(io.BytesIO(content)) as reader:
            return float(reader.getnframes() / reader.getframerate())
    except (wave.Error, EOFError, ZeroDivisionError):
        return None
