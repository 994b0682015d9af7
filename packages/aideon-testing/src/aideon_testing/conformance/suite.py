"""The suite as a class for pytest to collect."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import pytest

from aideon_testing.conformance.bodies import Bodies
from aideon_testing.conformance.promises import FEATURES, cases_of
from aideon_testing.conformance.reference import reference_shapes
from aideon_testing.conformance.shapes import differences
from aideon_testing.conformance.subject import Subject

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from aideon_core import Client
    from aideon_core.backends.base import Backend
    from aideon_testing.conformance.shapes import Shape


class ConformanceTests(Bodies):
    """Subclass it, and give it a backend or a client to hold to the suite.

    ```python
    class TestMine(ConformanceTests):
        supports_logprobs = False

        @pytest.fixture(scope="class")
        @classmethod
        def backend(cls):
            return LlamaCppBackend("qwen2.5-coder-0.5b-instruct")
    ```

    Every ``supports_...`` is None at first: the backend's abilities say what it can do. False
    means that requests for it have to be refused with Unsupported, which the suite checks.

    Attributes:
        supports_tools: tools can be offered.
        supports_tool_choice: a call can be required, and one tool be named.
        supports_parallel_tool_calls: several calls at once can be forbidden.
        supports_json_schema: an answer can be held to a JSON Schema.
        supports_json_object: an answer can be held to be a JSON object.
        supports_regex: an answer can be held to a regex.
        supports_logprobs: the probabilities of tokens can be told.
        supports_n: several answers can be asked for at once.
        supports_top_k: the parameter is followed, as are those of the next three.
        supports_min_p: see ``supports_top_k``.
        supports_repetition_penalty: see ``supports_top_k``.
        supports_logit_bias: see ``supports_top_k``.
        supports_prefix: an answer can go on from a given beginning.
        repeats: the same request with a seed is answered the same.
        context_tokens: how many tokens the context has; None skips what would overrun it.
    """

    supports_tools: ClassVar[bool | None] = None
    supports_tool_choice: ClassVar[bool | None] = None
    supports_parallel_tool_calls: ClassVar[bool | None] = None
    supports_json_schema: ClassVar[bool | None] = None
    supports_json_object: ClassVar[bool | None] = None
    supports_regex: ClassVar[bool | None] = None
    supports_logprobs: ClassVar[bool | None] = None
    supports_n: ClassVar[bool | None] = None
    supports_top_k: ClassVar[bool | None] = None
    supports_min_p: ClassVar[bool | None] = None
    supports_repetition_penalty: ClassVar[bool | None] = None
    supports_logit_bias: ClassVar[bool | None] = None
    supports_prefix: ClassVar[bool | None] = None
    repeats: ClassVar[bool] = True
    context_tokens: ClassVar[int | None] = None

    @pytest.fixture(scope="class")
    @classmethod
    def backend(cls) -> Backend | Client:
        """What is held to the suite; yours to close."""
        raise NotImplementedError("Give the class a fixture named backend, of scope class.")

    @pytest.fixture(scope="class")
    @classmethod
    def subject(cls, backend: Backend | Client) -> Iterator[Subject]:
        """The backend as the bodies ask it; its ``shapes`` are there for a fixture to keep."""
        says = {feature: getattr(cls, f"supports_{feature}") for feature in FEATURES}
        with Subject(
            backend,
            lacks=[feature for feature, able in says.items() if able is False],
            has=[feature for feature, able in says.items() if able],
            repeats=cls.repeats,
            context_tokens=cls.context_tokens,
        ) as subject:
            yield subject

    @pytest.fixture(scope="class")
    @classmethod
    def shapes(cls) -> Mapping[str, Shape]:
        """What the shapes of the answers have to be; by default those of Together's."""
        return reference_shapes()

    def test_shapes_are_the_same_everywhere(
        self, subject: Subject, shapes: Mapping[str, Shape]
    ) -> None:
        """Every answer so far has the fields of Together's, and every stream their order."""
        apart = differences(subject.shapes, shapes)
        assert not apart, "\n".join(apart)

    def pytest_generate_tests(self, metafunc: Any) -> None:  # noqa: ANN401 - pytest's own
        """Run a body once for each of its cases."""
        for name, values in cases_of(metafunc.cls, metafunc.function.__name__).items():
            metafunc.parametrize(name, values)
