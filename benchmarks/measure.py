"""What the benchmarks share: sides that take turns, medians, and rows for the table."""

from __future__ import annotations

import math
import operator
import statistics
import sys
import time
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from llama_cpp import Llama

from aideon_core import Client, LlamaCppBackend
from aideon_core.config import DEFAULT_LOCAL

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

Row: TypeAlias = dict[str, Any]
Target: TypeAlias = tuple[Literal["Aideon", "ratio"], Literal[">=", "<="], float]
"""Which figure of a row is held to what."""

THREADS = 2
QWEN, GEMMA = DEFAULT_LOCAL, "gemma-3-270m"
SHORT = {QWEN: "Qwen2.5-Coder 0.5B", GEMMA: "Gemma 3 270M"}
PEER = "llama-cpp-python"
# A base model has no template; it goes on from the text it is given.
_TEXT_ALONE = "{% for message in messages %}{{ message.content }}{% endfor %}"
# The peer keeps the logits of a whole batch, which for a big vocabulary is hundreds of MB.
_PEER_BATCH = {GEMMA: 128}
_HOLDS = {">=": operator.ge, "<=": operator.le}


def here(models: Iterable[str]) -> list[str]:
    """Those of the models that are on this machine; of the others it says so."""
    found = []
    for model in models:
        reason = LlamaCppBackend(model).unavailable()
        if reason is None:
            found.append(model)
        else:
            skipped(f"{SHORT[model]}: {reason.message} {reason.hint}")
    return found


def skipped(what: str) -> None:
    """Tell whoever runs this what is left out."""
    print(f"left out: {what}", file=sys.stderr, flush=True)


def our_client(model: str, *, n_ctx: int, parallel: int = 4, reproducible: bool = True) -> Client:
    """Our side: a client with this local model alone."""
    backend = LlamaCppBackend(
        model,
        n_ctx=n_ctx,
        n_threads=THREADS,
        parallel=parallel,
        reproducible=reproducible,
        chat_template=_TEXT_ALONE if model == GEMMA else None,
    )
    return Client(local=backend, cloud=None)


def peer_model(model: str, *, n_ctx: int, **options: object) -> Llama:
    """The peer's object on the same file, with as many threads."""
    return Llama(
        str(LlamaCppBackend(model).path),
        n_ctx=n_ctx,
        n_batch=_PEER_BATCH.get(model, 512),
        n_threads=THREADS,
        n_threads_batch=THREADS,
        verbose=False,
        **options,
    )


def peer_answer(peer: Llama, model: str, prompt: str, **params: object) -> Mapping[str, Any]:
    """The peer's whole answer: of its chat, or its completion where there is no template."""
    if model == GEMMA:
        answer: Mapping[str, Any] = peer.create_completion(prompt, **params)
    else:
        answer = peer.create_chat_completion([{"role": "user", "content": prompt}], **params)
    return answer


def rates(ways: Mapping[str, Callable[[], int]], rounds: int) -> dict[str, float]:
    """Tokens a second of each way, the median over rounds in which each has its turn.

    Args:
        ways: functions that tell how many tokens they made. Each is called once before, so
            that models are loaded, prompts read and grammars compiled.
        rounds: how often each is timed.
    """
    for way in ways.values():
        way()
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            started = time.perf_counter()
            tokens = way()
            taken[name].append(tokens / (time.perf_counter() - started))
    return {name: statistics.median(figures) for name, figures in taken.items()}


def row(
    what: str,
    unit: str,
    ours: float,
    peer: str,
    theirs: float | None,
    *,
    target: Target | None = None,
    note: str = "",
) -> Row:
    """A row of the table.

    Args:
        what: what is measured.
        unit: of both figures.
        ours: our figure.
        peer: who the other figure is of, and by which way.
        theirs: the other figure, None where the peer cannot do it.
        target: what the row is held to.
        note: what one has to know to read it.
    """
    made: Row = {"what": what, "unit": unit, "ours": ours, "peer": peer, "theirs": theirs}
    if target is not None:
        of, relation, bound = target
        figure = ours if of == "Aideon" else ours / theirs if theirs else math.nan
        made["target"] = f"{of} {relation} {bound:g}"
        made["held"] = bool(_HOLDS[relation](figure, bound))
    if note:
        made["note"] = note
    return made


def interval(right: int, asked: int) -> tuple[float, float]:
    """Between which shares the true one lies with 95% confidence, by Wilson's formula."""
    if not asked:
        return 0.0, 1.0
    z = statistics.NormalDist().inv_cdf(0.975)
    share, spread = right / asked, z * z / asked
    middle = share + spread / 2
    half = z * math.sqrt(share * (1 - share) / asked + spread / asked / 4)
    low, high = (middle - half) / (1 + spread), (middle + half) / (1 + spread)
    # Rounding can lead past the share itself at either end.
    return min(low, share) if right else 0.0, max(high, share) if right < asked else 1.0
