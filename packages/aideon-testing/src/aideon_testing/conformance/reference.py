"""The shapes to compare with: those of a perfect model behind the loopback Together."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from aideon_core import Config, TogetherBackend
from aideon_testing.conformance.obedient import ObedientAnswers
from aideon_testing.conformance.runner import examine
from aideon_testing.conformance.subject import Subject
from aideon_testing.engines import TODAY
from aideon_testing.server import LoopbackTogether

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from aideon_testing.conformance.shapes import Shape

LOOPBACK_CONTEXT: Final = 131_072
"""How many tokens the model behind the loopback takes."""

_MODEL: Final = "meta-llama/Llama-3.3-70B-Instruct-Turbo"


@contextmanager
def loopback() -> Iterator[TogetherBackend]:
    """A perfect model on a loopback Together, as a backend."""
    server = LoopbackTogether(ObedientAnswers(), models=[_MODEL], dialects={_MODEL: TODAY})
    # The server is on this machine, so that AIDEON_OFFLINE does not concern it.
    config = replace(Config.load(), offline=False)
    with server:
        backend = TogetherBackend(
            _MODEL, api_key=server.api_key, base_url=server.base_url, config=config
        )
        try:
            yield backend
        finally:
            backend.close()


@lru_cache(maxsize=1)
def reference_shapes() -> Mapping[str, Shape]:
    """The shape of every answer in the suite, as Together's are; taken once in a process."""
    with loopback() as backend, Subject(backend, context_tokens=LOOPBACK_CONTEXT) as subject:
        return examine(subject).shapes
