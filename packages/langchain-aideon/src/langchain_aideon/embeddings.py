"""``AideonEmbeddings``: an Aideon client's embedding model as LangChain's."""

# ruff: noqa: ANN401 - pydantic's signatures say Any

from __future__ import annotations

import json
import re
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final, Self

from langchain_core.embeddings import Embeddings
from langchain_core.utils import secret_from_env
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, SecretStr

from aideon_core import AsyncClient, Client, Config, EmbeddingModel
from aideon_core.backends import hosts
from aideon_core.embeddings import EmbeddingRequest, EmbedParams
from aideon_core.errors import BadRequest, ConfigError, ServerError
from langchain_aideon.errors import translated

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from aideon_core.embeddings import Embeddings as Vectors

# What a ready client has settled, and what says nothing about it.
_SETTLED: Final[Mapping[str, object]] = {
    "name": "",
    "matryoshka": False,
    **dict.fromkeys(("local", "cloud", "api_key", "base_url", "timeout", "max_retries")),
}


class AideonEmbeddings(BaseModel, Embeddings):
    """Vectors of one embedding model, computed here when it can be and in the cloud when not.

    Nothing is loaded and nothing is connected before the first text. A text is embedded by the
    other side only where ``local`` and ``cloud`` say that the same model is there, and one object
    never gives vectors of two sizes. It cannot be changed: ``model_copy`` makes another one.

    Copies share the client. A pickle holds the words and no key, which is read again from the
    environment; an object that was given a ``client`` is not pickled.

    Args:
        model: a Together model id, the path of a ``.gguf`` file of an embedding model, or
            ``"host:model"`` for another host; Together's multilingual E5 when nothing is given.
        local: the ``.gguf`` file of a model that may also be in the cloud; instead of ``model``.
        cloud: the cloud's name for that same model.
        name: what the model is called; the cloud's name for it, or the file's, when not given.
        matryoshka: whether the model was trained for ``dimensions``.
        policy: ``"local-first"``, ``"cloud-first"``, ``"local-only"`` or ``"cloud-only"``.
        dimensions: how many numbers of each vector to keep; the rest is cut off, and its length
            is 1 again.
        truncate: read the beginning of a text that does not fit into the model's context, which
            is an error otherwise. Together's models do so in any case.
        query_prefix: put before every query, as models such as E5 and BGE need it to find well.
        document_prefix: put before every document.
        api_key: the cloud's key; ``TOGETHER_API_KEY``, or the host's own variable, when not
            given.
        base_url: the cloud's address; ``TOGETHER_BASE_URL`` when not given.
        timeout: the longest wait for the cloud's next byte, in seconds.
        max_retries: how often the last side left is asked again after a failure that may pass.
        deadline: the seconds that one call may take, with every retry and fallback.
        client: a ready Client instead of the words above for models and cloud.

    Raises:
        ConfigError: a model, file, policy or setting that does not exist, or two that
            contradict each other.
        BadRequest: ``dimensions`` or ``deadline`` is no number above 0.

    Example:
        .. code-block:: python

            embeddings = AideonEmbeddings(
                local="bge-base-en-v1.5-q8_0.gguf",
                cloud="BAAI/bge-base-en-v1.5",
                query_prefix="Represent this sentence for searching relevant passages: ",
            )
            vectors = embeddings.embed_documents(["A cat sleeps.", "Shares fell."])
            print(len(vectors), embeddings.dimension, embeddings.fingerprint)
    """

    # What was said of a model that is pinned cannot change; and a key under a mistyped name
    # would be shown by the error about it.
    model_config = ConfigDict(
        extra="forbid", frozen=True, hide_input_in_errors=True, arbitrary_types_allowed=True
    )

    model: str | None = None
    local: str | None = None
    cloud: str | None = None
    name: str = ""
    matryoshka: bool = False
    policy: str = Field(default_factory=lambda: Config.load().policy)
    dimensions: int | None = None
    truncate: bool = False
    query_prefix: str = ""
    document_prefix: str = ""
    api_key: SecretStr | None = Field(
        default_factory=secret_from_env("TOGETHER_API_KEY", default=None), exclude=True, repr=False
    )
    base_url: str | None = None
    timeout: float | None = None
    max_retries: int | None = None
    deadline: float | None = None
    client: Client | None = Field(default=None, exclude=True, repr=False)

    _client: Client = PrivateAttr()
    _async_client: AsyncClient = PrivateAttr()
    _dimension: int | None = PrivateAttr(default=None)

    # Not a validator: pydantic would wrap the core's errors and take their type away.
    def __init__(self, **fields: Any) -> None:
        client = fields.get("client")
        if isinstance(client, Client):
            fields |= _words_of(client, fields)
        elif not any(fields.get(word) for word in ("model", "local", "cloud")):
            from aideon_core.backends.embedders import DEFAULT

            fields["model"] = DEFAULT.cloud
        super().__init__(**fields)
        self._client = client or self._made()
        self._async_client = AsyncClient.sharing(self._client)
        # The core checks what it is asked for before it asks anybody.
        self._client.space.plan(self._client.policy, [], **self._params).close()

    @property
    def model_identity(self) -> str:
        """The one model that every vector belongs to, whichever side computes it."""
        return str(self._client.space.model)

    @property
    def dimension(self) -> int | None:
        """How many numbers a vector has; None before the first."""
        return self._dimension

    @property
    def fingerprint(self) -> str:
        """What decides the vector of a document, in letters that any store takes in a key.

        It is the same where the model's identity, ``dimensions`` and ``document_prefix`` are.
        Keep it with an index, or make it the namespace of a cache of documents' vectors. Queries
        want a cache of their own, because ``query_prefix`` is no part of it.
        """
        said = [self.model_identity, self.dimensions, self.document_prefix]
        digest = sha256(json.dumps(said).encode()).hexdigest()
        return f"{re.sub(r'[^A-Za-z0-9.]+', '-', self.model_identity)}-{digest[:12]}"

    def check_fingerprint(self, fingerprint: str) -> None:
        """Refuse an index whose vectors cannot be compared with this object's.

        Args:
            fingerprint: what was kept with the index.

        Raises:
            ConfigError: the index was made with another model, or with other settings.
        """
        if fingerprint != self.fingerprint:
            raise ConfigError(
                f"The index was made with {fingerprint!r}, and these embeddings are "
                f"{self.fingerprint!r}.",
                hint="Open it with the model, dimensions= and document_prefix= it was made with, "
                "or make it anew.",
            )

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """Embed documents: a vector of length 1 for each, in their order.

        Args:
            texts: none of them empty, because an empty text has no place among others.

        Raises:
            BadRequest: an argument is wrong; names the text by its index. Nothing was sent.
            ContextTooLong: a text does not fit; names it by its index.
            AideonError: nobody could answer; ``error.route`` tells why.
        """
        with translated():
            return self._embedded(texts, self.document_prefix)

    def embed_query(self, text: str) -> list[float]:
        """Embed a query: a vector of length 1; errors as for ``embed_documents``."""
        with translated():
            return self._embedded([text], self.query_prefix)[0]

    async def aembed_documents(self, texts: list[str]) -> list[list[float]]:
        """Embed documents without blocking the event loop; see ``embed_documents``."""
        with translated():
            return await self._aembedded(texts, self.document_prefix)

    async def aembed_query(self, text: str) -> list[float]:
        """Embed a query without blocking the event loop; see ``embed_query``."""
        with translated():
            return (await self._aembedded([text], self.query_prefix))[0]

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """A copy; where ``update`` says something else, it is made as if it were new."""
        if not update:
            return super().model_copy(deep=deep)
        said = self.model_fields_set | {"policy"}
        return type(self)(**{word: value for word, value in self if word in said} | dict(update))

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        for name, value in super().__repr_args__():
            # A user and a password may be in it.
            yield name, hosts.shown(value) if name == "base_url" and value else value

    def __reduce__(self) -> tuple[Any, ...]:
        if self.client is not None:
            raise TypeError(
                "A ready client is not pickled. Give AideonEmbeddings the words for its models, "
                "or make it anew where it is needed."
            )
        return _unpickled, (type(self), self.model_dump(), self._dimension)

    def _made(self) -> Client:
        key = self.api_key
        return Client(
            local=None,
            cloud=None,
            policy=self.policy,
            embedding=self._target(),
            # A key from the environment is Together's, and the model may be another host's.
            api_key=key.get_secret_value() if key and "api_key" in self.model_fields_set else None,
            base_url=self.base_url,
            timeout=self.timeout,
            max_retries=self.max_retries,
        )

    def _target(self) -> EmbeddingModel:
        if self.model and (self.local or self.cloud):
            raise ConfigError(
                f"model= is {self.model!r}, and local= or cloud= says where another one is.",
                hint="Give model= alone, or local= and cloud= for one model in both places.",
            )
        if self.dimensions is not None and not self.matryoshka:
            raise ConfigError(
                f"dimensions is {self.dimensions}, and cutting the vectors of a model that is not "
                "trained for it spoils them.",
                hint="If this one is, give matryoshka=True.",
            )
        local, cloud = self.local or None, self.cloud or None
        if self.model and self.model.endswith(".gguf"):
            local = self.model
        elif self.model:
            cloud = self.model
        return EmbeddingModel(local, cloud, name=self.name, matryoshka=self.matryoshka)

    @property
    def _params(self) -> EmbedParams:
        return EmbedParams(
            dimensions=self.dimensions, truncate=self.truncate, deadline=self.deadline
        )

    def _embedded(self, texts: list[str], prefix: str) -> list[list[float]]:
        asked = _prefixed(texts, prefix)
        return self._checked(self._client.embed(asked, **self._params)) if asked else []

    async def _aembedded(self, texts: list[str], prefix: str) -> list[list[float]]:
        asked = _prefixed(texts, prefix)
        return self._checked(await self._async_client.embed(asked, **self._params)) if asked else []

    def _checked(self, found: Vectors) -> list[list[float]]:
        # The core knows what its client has seen, and not what this object had before a pickle.
        if self._dimension not in (None, found.dimension):
            raise ServerError(
                f"{self.model_identity!r} gave vectors of {found.dimension} numbers, and its "
                f"vectors had {self._dimension} before, so it is not the same model.",
                hint="Give local= and cloud= the same model.",
                model=self.model_identity,
            )
        self._dimension = found.dimension
        return list(found)


def _words_of(client: Client, given: Mapping[str, object]) -> dict[str, object]:
    said = {**_SETTLED, "model": client.space.model, "policy": client.policy.name}
    # Words that say the same are no conflict: copies are made from every field at once.
    both = sorted(word for word in said.keys() & given.keys() if given[word] != said[word])
    if both:
        raise ConfigError(
            f"client= already says what {', '.join(both)} would.", hint="Give one or the other."
        )
    return said


def _prefixed(texts: Sequence[str], prefix: str) -> list[str]:
    if isinstance(texts, str):
        raise BadRequest("texts is a str.", hint="Give a list of texts, or ask embed_query.")
    # Checked as they were given: behind a prefix, an empty text would not be empty.
    return [prefix + text for text in EmbeddingRequest.of(texts).texts]


def _unpickled(
    kind: type[AideonEmbeddings], words: dict[str, Any], dimension: int | None
) -> AideonEmbeddings:
    made = kind(**words)
    made._dimension = dimension  # noqa: SLF001 - a friend: it is part of what was pickled
    return made
