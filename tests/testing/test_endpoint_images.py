"""POST /v1/images/generations, and the pictures it leads to."""

from __future__ import annotations

import io
from base64 import b64decode
from typing import TYPE_CHECKING

import httpx2
import openai
import pytest
import together as together_sdk
from hypothesis import given, settings
from hypothesis import strategies as st

from aideon_testing import pictures

Image = pytest.importorskip("PIL.Image", reason="another's decoder is the judge of pictures")

if TYPE_CHECKING:
    from collections.abc import Iterator

PATH = "/v1/images/generations"
SCHNELL = "black-forest-labs/FLUX.1-schnell"
BODY = {"model": SCHNELL, "prompt": "a shiba inu", "width": 256, "height": 320}
WRONG_SIDE = "Invalid value for '{0}' parameter. Image {0} must be an integer value between"
SIDES = st.integers(1, 70)
COLOURS = st.tuples(*[st.integers(0, 255)] * 3)


@pytest.fixture
def sdk(together) -> Iterator[together_sdk.Together]:
    """Together's SDK, talking to the server."""
    with together_sdk.Together(api_key="k", base_url=together.base_url, max_retries=0) as sdk:
        yield sdk


def decoded(content: bytes) -> Image.Image:
    """The picture in a file."""
    image = Image.open(io.BytesIO(content))
    image.load()
    return image


def test_the_address_of_a_picture_leads_to_it(sdk):
    """The sdk reads an address, which anybody can open without a key."""
    (picture,) = sdk.images.generate(**BODY).data
    response = httpx2.get(picture.url)
    assert response.headers["content-type"] == "image/jpeg"
    assert response.headers["content-disposition"].startswith('inline; filename="')
    image = decoded(response.content)
    assert (image.format, image.size) == ("JPEG", (256, 320))


def test_a_picture_comes_in_the_answer_where_that_is_asked_for(together, sdk):
    """Base64 is the file itself, in Together's word for it and in OpenAI's."""
    (ours,) = sdk.images.generate(**BODY, response_format="base64", output_format="png").data
    url = f"{together.base_url}/v1"
    with openai.OpenAI(api_key="k", base_url=url, max_retries=0) as openai_sdk:
        (theirs,) = openai_sdk.images.generate(
            model=SCHNELL, prompt="a cat", response_format="b64_json"
        ).data
    image = decoded(b64decode(ours.b64_json))
    assert (image.format, image.size) == ("PNG", (256, 320))
    assert decoded(b64decode(theirs.b64_json)).size == (1024, 1024)


def test_the_body_is_the_recorded_one(client):
    """There is no type beside a picture, and its id tells where the network was entered."""
    response = client.post(PATH, json=BODY | {"n": 2})
    body = response.json()
    assert list(body) == ["id", "model", "object", "data"]
    assert [list(row) for row in body["data"]] == [["index", "url", "timings"]] * 2
    assert [row["index"] for row in body["data"]] == [0, 1]
    assert body["id"].endswith("-LHR")
    assert response.headers["x-request-id"] == body["id"]
    assert response.headers["x-image-version"] == "v2"
    assert response.headers["x-ratelimit-limit-tokens"] == "0"
    assert not {"x-inference-version", "x-amzn-trace-id"} & set(response.headers)


def test_a_seed_gives_the_same_picture_again(client):
    """Prompt and seed decide what is drawn, and each picture of an answer is another."""

    def drawn(**change: object) -> list[str]:
        body = BODY | {"response_format": "base64"} | change
        return [row["b64_json"] for row in client.post(PATH, json=body).json()["data"]]

    assert drawn(seed=7) == drawn(seed=7)
    assert drawn(seed=7) != drawn(seed=8)
    assert drawn(prompt="a cat") != drawn(prompt="a dog")
    assert len(set(drawn(n=4))) == 4


@settings(deadline=None)
@given(SIDES, SIDES, COLOURS)
def test_any_size_and_colour_can_be_decoded(width, height, colour):
    """Both formats are real files: the size is exact, the colour but for rounding."""
    png, jpeg = (decoded(draw(width, height, colour)) for draw in (pictures.png, pictures.jpeg))
    assert png.size == jpeg.size == (width, height)
    corner = width - 1, height - 1
    assert png.getpixel(corner) == colour
    assert all(abs(a - b) <= 3 for a, b in zip(jpeg.getpixel(corner), colour, strict=True))


@pytest.mark.parametrize(
    ("change", "message", "param"),
    [
        ({"model": None}, "Invalid request", "model"),
        ({"prompt": None}, "Invalid request", "prompt"),
        ({"prompt": ""}, "Prompt cannot be empty", None),
        ({"n": 5}, "Input validation error", None),
        ({"steps": 51}, "Input validation error", None),
        ({"output_format": "gif"}, "Input validation error", None),
        ({"response_format": "file"}, "Input validation error", None),
        ({"seed": "x"}, "Input validation error", None),
        (
            {"width": 10},
            f"{WRONG_SIDE.format('width')} 256 and 1920.",
            None,
        ),
        (
            {"model": "black-forest-labs/FLUX.2-dev", "height": 256, "width": 512},
            f"{WRONG_SIDE.format('height')} 512 and 2048, in multiples of '16'.",
            None,
        ),
    ],
)
def test_a_picture_that_cannot_be_is_refused(client, change, message, param):
    """A body that will not do gets the API's error."""
    response = client.post(PATH, json=BODY | change)
    error = response.json()["error"]
    assert (response.status_code, error["message"], error["param"]) == (400, message, param)


def test_a_chat_model_draws_nothing(client):
    """As at the API, that is found out only after five tries."""
    response = client.post(PATH, json=BODY | {"model": "openai/gpt-oss-20b"})
    assert (response.status_code, response.headers["x-api-retries"]) == (500, "5")


def test_what_is_not_there_is_not_found(client, sdk):
    """An unknown model is a 404, and so is an address nobody was given."""
    with pytest.raises(together_sdk.NotFoundError, match="Unable to access model x/y"):
        sdk.images.generate(model="x/y", prompt="a cat")
    assert client.get("/shrt/0000000000000000").status_code == 404
