"""Pictures of one colour, as small as the formats allow: pure functions, no I/O."""

from __future__ import annotations

import struct
import zlib
from typing import Final, TypeAlias

Colour: TypeAlias = tuple[int, int, int]
"""Red, green and blue, from 0 to 255 each."""

_BLOCK: Final = 8
# How many Huffman codes there are of each length from 1 to 16 bits, and what they stand for.
# The first is the standard's table for the average of a block, the second knows nothing but
# "the rest of this block is zero".
_AVERAGES: Final = bytes([0, 1, 5, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0]) + bytes(range(12))
_REST: Final = bytes([1]) + bytes(16)
_AVERAGE_CODES: Final = ("00", "010", "011", "100", "101", "110", "1110", "11110", "111110")
_REST_CODE: Final = "0"


def png(width: int, height: int, colour: Colour) -> bytes:
    """A PNG file of that size and colour."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    rows = zlib.compress((b"\0" + bytes(colour) * width) * height)
    chunks = (b"IHDR", header), (b"IDAT", rows), (b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(name, content) for name, content in chunks)


def jpeg(width: int, height: int, colour: Colour) -> bytes:
    """A baseline JPEG file of that size and, but for rounding, that colour."""
    planes = bytes(byte for plane in (1, 2, 3) for byte in (plane, 0x11, 0))
    scan = b"\3" + bytes(byte for plane in (1, 2, 3) for byte in (plane, 0)) + b"\0\x3f\0"
    segments = (
        (0xE0, b"JFIF\0\1\1\0\0\1\0\1\0\0"),
        (0xDB, b"\0" + bytes([_BLOCK] * 64)),
        (0xC0, struct.pack(">BHHB", 8, height, width, 3) + planes),
        (0xC4, b"\x00" + _AVERAGES),
        (0xC4, b"\x10" + _REST),
        (0xDA, scan),
    )
    head = b"".join(_segment(marker, content) for marker, content in segments)
    blocks = -(-width // _BLOCK) * -(-height // _BLOCK)
    return b"\xff\xd8" + head + _scanned(colour, blocks) + b"\xff\xd9"


def _chunk(name: bytes, content: bytes) -> bytes:
    checksum = struct.pack(">I", zlib.crc32(name + content))
    return struct.pack(">I", len(content)) + name + content + checksum


def _segment(marker: int, content: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content


def _scanned(colour: Colour, blocks: int) -> bytes:
    red, green, blue = colour
    light = 0.299 * red + 0.587 * green + 0.114 * blue
    planes = light - 128, 0.564 * (blue - light), 0.713 * (red - light)
    first = "".join(_average(round(plane)) + _REST_CODE for plane in planes)
    # Every other block is no different from the one before.
    others = len(planes) * (len(_AVERAGE_CODES[0]) + len(_REST_CODE)) * (blocks - 1)
    padding = -(len(first) + others) % 8
    bits = (int(first, 2) << others + padding) | ((1 << padding) - 1)
    content = bits.to_bytes((len(first) + others + padding) // 8)
    return content.replace(b"\xff", b"\xff\0")


def _average(value: int) -> str:
    """A number as its length and its bits; a negative one has its bits turned round."""
    length = abs(value).bit_length()
    bits = value if value > 0 else value + (1 << length) - 1
    return _AVERAGE_CODES[length] + (f"{bits:0{length}b}" if length else "")
