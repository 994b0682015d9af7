"""The parameters that chat and text completions have in common."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from aideon_testing.endpoints.bodies import Body

MOST_LOGPROBS: Final = 20
"""How many alternatives may be asked for at each token."""

_MOST_CHOICES: Final = 128
_NUMBERS: Final = (
    "temperature",
    "top_p",
    "min_p",
    "repetition_penalty",
    "presence_penalty",
    "frequency_penalty",
)
_OVERFLOWS: Final = ("truncate", "error")


@dataclass(frozen=True, slots=True)
class Sampling:
    """What a request asks for in the common parameters, apart from what an answerer is told.

    Attributes:
        choices: how many answers.
        echo: whether the prompt comes with them.
        stream: whether they come as they are made.
        seed: to be sent back, ``None`` when there is none.
    """

    choices: int
    echo: bool
    stream: bool
    seed: int | None

    @classmethod
    def read(cls, body: Body) -> Sampling:
        """Check every parameter.

        Raises:
            Failure: 400, one of them is of the wrong kind.
        """
        for name in _NUMBERS:
            body.number(name)
        body.integer("max_tokens", 0)
        body.integer("top_k", -1)
        body.texts("stop")
        biases = body.mapping("logit_bias")
        for token in biases:
            Body(biases).number(token)
        body.choice("context_length_exceeded_behavior", _OVERFLOWS, "error")
        return cls(
            choices=body.integer("n", 1, _MOST_CHOICES) or 1,
            echo=body.flag("echo"),
            stream=body.flag("stream"),
            seed=body.integer("seed", -(2**63)),
        )
