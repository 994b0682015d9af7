"""The vectors of one model: who computes them, and how many numbers they have."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aideon_core.embeddings.plan import Plan, embedding
from aideon_core.embeddings.values import EmbeddingRequest
from aideon_core.errors import BadRequest, ConfigError
from aideon_core.policy import Policy, Prefer
from aideon_core.routing import Candidate, decide
from aideon_core.types import Request

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from aideon_core.backends.base import Embedder
    from aideon_core.embeddings.values import EmbeddingModel

_NEEDS_NOTHING = Request(())


class Space:
    """The space that one model puts texts into.

    Args:
        model: whose it is; None for no space at all.
        embedders: who has that model, by name.
    """

    def __init__(self, model: EmbeddingModel | None, embedders: Mapping[str, Embedder]) -> None:
        self.embedders = embedders
        self._matryoshka = model is not None and model.matryoshka
        # Where both sides have a name for it, the cloud's is the one others know.
        names = {each.side: each.model for each in embedders.values()}
        self.model = (model.name if model else "") or names.get("cloud") or names.get("local")
        self._dimension: int | None = None

    def __repr__(self) -> str:
        places = ", ".join(repr(each) for each in self.embedders.values())
        return f"Space({self.model!r}: {places})"

    def plan(
        self,
        policy: Policy,
        texts: str | Sequence[str],
        *,
        dimensions: int | None = None,
        truncate: bool = False,
        deadline: float | None = None,
    ) -> Plan:
        """Begin to embed, on the sides that the policy allows; see EmbedParams.

        Raises:
            BadRequest: an argument is wrong.
            ConfigError: there is no model, or the policy is not one that prefers sides.
        """
        if self.model is None:
            raise ConfigError(
                "This client has no embedding model.",
                hint="Give it embedding=, a .gguf file or a cloud model's name.",
            )
        if not isinstance(policy, Prefer):
            raise ConfigError(
                f"{policy!r} says nothing of embeddings.",
                hint="Embed with a client of another policy, such as 'local-first'.",
            )
        self._check(dimensions)
        request = EmbeddingRequest.of(texts, truncate=truncate, deadline=deadline)
        candidates = [
            Candidate(each.name, each.side, each.model, frozenset(), each.unavailable())
            for each in self.embedders.values()
        ]
        plan = embedding(
            decide(_NEEDS_NOTHING, candidates, policy=policy.name, sides=policy.sides),
            request,
            model=self.model,
            dimension=self._dimension,
            max_retries=policy.max_retries,
        )
        return self._placed(plan, dimensions)

    def close(self) -> None:
        """Let go of connections and models."""
        for embedder in self.embedders.values():
            embedder.close()

    async def aclose(self) -> None:
        """Let go of what belongs to the running event loop, and of the rest."""
        for embedder in self.embedders.values():
            await embedder.aclose()

    def _placed(self, plan: Plan, dimensions: int | None) -> Plan:
        found = yield from plan
        self._dimension = found.dimension or self._dimension
        return found if dimensions is None else found.shortened(dimensions)

    def _check(self, dimensions: object) -> None:
        if dimensions is None:
            return
        if not isinstance(dimensions, int) or dimensions < 1:
            raise BadRequest(
                f"dimensions is {dimensions!r} and has to be a number above 0.", param="dimensions"
            )
        if not self._matryoshka:
            raise BadRequest(
                f"{self.model!r} is not said to be trained for shorter vectors, and cutting those "
                "of another model spoils them.",
                hint="If it is, give embedding=EmbeddingModel(..., matryoshka=True).",
                param="dimensions",
            )
        if self._dimension is not None and dimensions > self._dimension:
            raise BadRequest(
                f"dimensions is {dimensions} and vectors of {self.model!r} have {self._dimension}.",
                param="dimensions",
            )
