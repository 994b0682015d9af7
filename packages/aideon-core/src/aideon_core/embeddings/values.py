"""What is asked of an embedding model, and what it gives."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final, TypedDict, overload

from aideon_core.errors import BadRequest, ConfigError

if TYPE_CHECKING:
    from decimal import Decimal
    from os import PathLike

    from aideon_core.backends.base import Embedder
    from aideon_core.types import Route, Usage

# Servers take 32 to 2048 texts and a few megabytes at once; most take these.
_MOST_TEXTS: Final = 64
_MOST_CHARACTERS: Final = 256_000


@dataclass(frozen=True, slots=True)
class EmbeddingModel:
    """One embedding model, here and in the cloud.

    Vectors of two models cannot be compared, so a text is embedded by another side only where
    you say that the same model is there.

    Attributes:
        local: the path of its ``.gguf`` file, or an embedder.
        cloud: its Together id, ``"host:model"``, or an embedder.
        name: what results call it; the cloud's name for it, or the file's, when not given.
        matryoshka: whether it was trained so that the first numbers of a vector are a vector
            too, which is what ``dimensions=`` needs.

    Raises:
        ConfigError: it is nowhere.
    """

    local: str | PathLike[str] | Embedder | None = None
    cloud: str | Embedder | None = None
    name: str = ""
    matryoshka: bool = False

    def __post_init__(self) -> None:
        if self.local is None and self.cloud is None:
            raise ConfigError(
                "The embedding model is nowhere.", hint="Give local=, cloud=, or both."
            )


class EmbedParams(TypedDict, total=False):
    """The parameters of ``embed``.

    ``dimensions`` cuts the vectors to their first numbers and brings them to length 1 again;
    it is for a model that is said to be trained for that. ``truncate`` allows reading only the
    beginning of a text that does not fit into the model's context. ``deadline`` is the seconds
    it may take, with every retry and fallback.
    """

    dimensions: int | None
    truncate: bool
    deadline: float | None


@dataclass(frozen=True, slots=True)
class EmbeddingRequest:
    """Texts to embed.

    ``first`` is the number of the first text in what the caller gave, for messages. A text
    beyond the model's context is cut where ``truncate`` says so, and refused otherwise.
    ``deadline`` is how many seconds are left.
    """

    texts: tuple[str, ...]
    truncate: bool = False
    deadline: float | None = None
    first: int = 0

    @classmethod
    def of(
        cls, texts: str | Sequence[str], *, truncate: bool = False, deadline: float | None = None
    ) -> EmbeddingRequest:
        """Check the arguments and make a request of them; one text is a list of one.

        Raises:
            BadRequest: an argument is wrong; names the text that is.
        """
        given = _texts(texts)
        for index, text in enumerate(given):
            _check_text(index, text)
        _check_switch("truncate", truncate)
        _check_seconds("deadline", deadline)
        return cls(given, truncate, deadline)

    def batches(self) -> Iterator[EmbeddingRequest]:
        """The same texts in parts that are sent one by one."""
        start = characters = 0
        for index, text in enumerate(self.texts):
            full = index - start == _MOST_TEXTS or characters + len(text) > _MOST_CHARACTERS
            if index > start and full:
                yield self._part(start, index)
                start, characters = index, 0
            characters += len(text)
        if self.texts:
            yield self._part(start, len(self.texts))

    def _part(self, start: int, end: int) -> EmbeddingRequest:
        return replace(self, texts=self.texts[start:end], first=self.first + start)


def _texts(given: object) -> tuple[str, ...]:
    if isinstance(given, str):
        return (given,)
    # What has no order, or gives no texts, has no vectors to be in their order.
    if isinstance(given, bytes | Mapping | AbstractSet) or not isinstance(given, Iterable):
        raise BadRequest(
            f"texts is a {type(given).__name__}.", hint="Give a text or a list of them."
        )
    return tuple(given)


def _check_switch(name: str, value: object) -> None:
    if not isinstance(value, bool):
        raise BadRequest(f"{name} is {value!r} and has to be true or false.", param=name)


def _check_seconds(name: str, value: object) -> None:
    if value is not None and not (isinstance(value, int | float) and value > 0):
        raise BadRequest(f"{name} is {value!r} and has to be seconds above 0.", param=name)


def _check_text(index: int, text: object) -> None:
    if not isinstance(text, str):
        raise BadRequest(f"Text {index} is a {type(text).__name__} and has to be a string.")
    if not text:
        raise BadRequest(f"Text {index} is empty, and nothing has no place among texts.")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise BadRequest(
            f"Text {index} has half a character at {error.start}, which cannot be written in UTF-8."
        ) from None


@dataclass(frozen=True, slots=True, repr=False)
class Embeddings(Sequence[list[float]]):
    """A vector for each text, in the order of the texts.

    A vector is a list of ``dimension`` floats, and its length in space is 1. ``model`` is the
    one model they all belong to; ``route`` tells who computed it. ``usage`` counts the tokens
    read and ``cost`` is in US dollars; None where the provider does not tell.
    """

    vectors: tuple[list[float], ...] = field(hash=False)
    model: str = ""
    usage: Usage | None = None
    cost: Decimal | None = None
    route: Route | None = None

    @property
    def dimension(self) -> int:
        """How many numbers a vector has; 0 where there is none."""
        return len(self.vectors[0]) if self.vectors else 0

    def __len__(self) -> int:
        return len(self.vectors)

    @overload
    def __getitem__(self, index: int) -> list[float]: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[list[float]]: ...
    def __getitem__(self, index: int | slice) -> list[float] | Sequence[list[float]]:
        return self.vectors[index]

    def __repr__(self) -> str:
        size = f"{len(self)} of {self.dimension} numbers"
        return f"{type(self).__name__}({size}, model={self.model!r}, cost={self.cost!r})"

    def shortened(self, dimensions: int) -> Embeddings:
        """The vectors cut to their first numbers, of length 1 again.

        Raises:
            BadRequest: there are fewer numbers than that.
        """
        if self.vectors and dimensions > self.dimension:
            raise BadRequest(
                f"dimensions is {dimensions} and vectors of {self.model!r} have {self.dimension}.",
                param="dimensions",
            )
        cut = (unit(vector[:dimensions]) for vector in self.vectors)
        return replace(self, vectors=tuple(cut))


def unit(vector: Sequence[float]) -> list[float]:
    """The vector of length 1 that points the same way.

    Raises:
        ValueError: it points nowhere, or holds something that is no number.
    """
    length = math.hypot(*vector)
    if not 0 < length < math.inf:
        raise ValueError(f"a vector has the length {length}")
    return [number / length for number in vector]
