"""``POST /v1/images/generations``, and the addresses it gives its pictures."""

from __future__ import annotations

import time
from base64 import b64encode
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import TYPE_CHECKING, Final

from aideon_testing import pictures, responses, wire
from aideon_testing.endpoints.bodies import Body
from aideon_testing.faults import Failure
from aideon_testing.models import is_a
from aideon_testing.routes import Route

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from aideon_core.types import Json
    from aideon_testing.connection import HttpRequest, HttpResponse
    from aideon_testing.routes import Call
    from aideon_testing.wire import Stamp

_MOST_PICTURES: Final = 4
_MOST_STEPS: Final = 50
_RATE: Final = 4.0
_SIDE: Final = 1024
_SIDES: Final = range(256, 1920 + 1)
# By the beginning of the model's id; the others take any side within _SIDES.
_SIDES_OF: Final = {"black-forest-labs/FLUX.2": range(512, 2048 + 1, 16)}
_FORMATS: Final = {"jpeg": pictures.jpeg, "png": pictures.png}
# The second is OpenAI's word for it.
_BASE64: Final = ("base64", "b64_json")


@dataclass(frozen=True, slots=True)
class _Picture:
    """A picture before it is drawn; the same one is drawn the same every time."""

    prompt: str
    seed: int
    width: int
    height: int
    format: str

    @property
    def name(self) -> str:
        """What the picture's address ends in."""
        return sha256(repr(self).encode("utf-8", "replace")).hexdigest()[:16]

    def draw(self) -> bytes:
        """The file: all of one colour, which depends on the prompt and the seed."""
        digest = sha256(f"{self.seed} {self.prompt}".encode("utf-8", "replace")).digest()
        return _FORMATS[self.format](self.width, self.height, (digest[0], digest[1], digest[2]))


class Images:
    """Pictures of one colour, but of the size and the format asked for.

    Args:
        models: the ids served.
    """

    def __init__(self, models: Collection[str]) -> None:
        self._models = models
        self._pictures: dict[str, _Picture] = {}

    def routes(self) -> Sequence[Route]:
        """The routes of these endpoints."""
        return (
            Route("POST", "/v1/images/generations", self._create, stamped=_stamped),
            # Whoever has the address may look.
            Route("GET", "/shrt/{name}", self._show, refusal=None, limited=False),
        )

    async def _create(self, call: Call) -> HttpResponse:
        values = call.json()
        body = Body(values)
        model = body.model(self._models)
        if not is_a(model, "image"):
            raise _no_image_model()
        encoded = body.choice("response_format", ("url", *_BASE64), "url") in _BASE64
        rows = []
        for index, picture in enumerate(_asked(body, values, model)):
            if encoded:
                row = {"index": index, "b64_json": b64encode(picture.draw()).decode()}
            else:
                self._pictures[picture.name] = picture
                host = call.request.headers.get("host", "127.0.0.1")
                row = {"index": index, "url": f"http://{host}/shrt/{picture.name}"}
            # The spec has a type here, which the API does not send.
            rows.append(row | {"timings": {"inference": 0.1}})
        return _answered(call, {"model": model, "object": "list", "data": rows})

    async def _show(self, call: Call) -> HttpResponse:
        name = call.parts["name"]
        if (picture := self._pictures.get(name)) is None:
            raise Failure.error(404, f"There is no picture {name}; it has to be generated first.")
        suffix = "jpg" if picture.format == "jpeg" else picture.format
        headers = {
            "access-control-expose-headers": "X-Request-ID",
            "cache-control": "max-age=31536000, public",
            "content-disposition": f'inline; filename="{name}.{suffix}"',
            "content-type": f"image/{picture.format}",
        }
        return responses.whole(200, headers, picture.draw())


def _stamped(request: HttpRequest, stamp: Stamp) -> Stamp:  # noqa: ARG001 - as all have it
    return replace(stamp, rate=_RATE, dynamic=False, pictures=True)


def _asked(body: Body, values: Json, model: str) -> list[_Picture]:
    prompt = body.prompt("prompt")
    width, height = (_side(values, name, model) for name in ("width", "height"))
    body.integer("steps", 1, _MOST_STEPS)
    body.number("guidance_scale")
    seed = body.integer("seed", -(2**63)) or 0
    image_format = body.choice("output_format", _FORMATS, "jpeg")
    return [
        _Picture(prompt, seed + index, width, height, image_format)
        for index in range(body.integer("n", 1, _MOST_PICTURES) or 1)
    ]


def _side(values: Json, name: str, model: str) -> int:
    side = values.get(name)
    if side is None:
        return _SIDE
    found = (sides for beginning, sides in _SIDES_OF.items() if model.startswith(beginning))
    sides = next(found, _SIDES)
    if isinstance(side, int) and not isinstance(side, bool) and side in sides:
        return side
    multiples = f", in multiples of '{sides.step}'" if sides.step > 1 else ""
    raise Failure.error(
        400,
        f"Invalid value for '{name}' parameter. Image {name} must be an integer value between "
        f"{sides[0]} and {sides[-1]}{multiples}.",
    )


def _no_image_model() -> Failure:
    """500 with five tries: the API notices only when the engine does not know what to do."""
    headers = {"x-api-retries": "5"}
    return Failure.server_error().with_headers(headers)


def _answered(call: Call, body: Json) -> HttpResponse:
    # Where the network was entered is part of these ids.
    identity = f"{call.stamp.id}-LHR"
    content = wire.pretty({"id": identity, **body})
    headers = wire.api_headers(call.stamp, content)
    headers |= wire.call_headers(call.stamp, ended=time.time()) | {"x-request-id": identity}
    return responses.whole(200, headers, content)
