"""What LangChain users pay: CPU time of a call and of a stream, and of importing the package.

The server runs in another process, so that only the client's time is counted.
"""

from __future__ import annotations

import json
import statistics
from typing import TYPE_CHECKING

from benchmarks.core_call import LONG, MODEL, SHORT, medians, serving
from benchmarks.import_cost import probe
from benchmarks.measure import row
from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage
from langchain_together import ChatTogether
from pydantic import SecretStr

from langchain_aideon import ChatAideon

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from benchmarks.measure import Row
    from langchain_core.language_models import BaseChatModel

IMPORTS = 5
FLOOR, PEER = "LangChain alone", "ChatTogether"
# What this took on the machine where both were first measured: 0.75 of 2.25 ms, 2.0 of 12.1.
SHARES = {"invoke": 0.33, "stream of about 50 chunks": 0.165}
# Seconds of CPU that the package may add to what it stands on.
MOST_ADDED = 0.3


def models(url: str) -> dict[str, BaseChatModel]:
    """Ours, the peer, and a model that answers at once."""
    return {
        "Aideon": ChatAideon(local=None, cloud=MODEL, api_key="k", base_url=url),
        PEER: ChatTogether(model=MODEL, api_key=SecretStr("k"), base_url=f"{url}/v1"),
        FLOOR: GenericFakeChatModel(messages=_answers()),
    }


def _answers() -> Iterator[AIMessage]:
    while True:
        yield AIMessage(LONG)


def figures(url: str) -> dict[str, dict[str, float]]:
    """CPU milliseconds by what is done and by whom."""
    ready = models(url)
    whole: dict[str, Callable[[], object]] = {
        name: lambda model=model: model.invoke(SHORT)  # type: ignore[misc]
        for name, model in ready.items()
    }
    streams: dict[str, Callable[[], object]] = {
        name: lambda model=model: list(model.stream(LONG))  # type: ignore[misc]
        for name, model in ready.items()
    }
    return {"invoke": medians(whole), "stream of about 50 chunks": medians(streams)}


def main() -> None:
    """Print a row for each peer and figure."""
    with serving() as url:
        taken = figures(url)
    rows = [
        row(
            f"LangChain, {what}",
            "CPU ms",
            by_whom["Aideon"],
            peer,
            by_whom[peer],
            target=("ratio", "<=", SHARES[what]) if peer == PEER else None,
        )
        for what, by_whom in taken.items()
        for peer in (PEER, FLOOR)
    ]
    print(json.dumps([*rows, *import_rows()]))


def import_rows() -> list[Row]:
    """What the package adds to the import of what it stands on, beside what its peer adds."""
    floor = "langchain_core.language_models.chat_models"
    modules = ("langchain_aideon", "langchain_together", floor)
    taken: dict[str, list[float]] = {module: [] for module in modules}
    for module in modules:
        probe(module)  # byte-compiles it and fills the disk cache
    for _ in range(IMPORTS):
        for module in modules:
            taken[module].append(probe(module)[0])
    ours, theirs, base = (statistics.median(taken[module]) for module in modules)
    return [
        row(
            "import of the LangChain package, beyond langchain-core's chat models",
            "CPU s",
            ours - base,
            "langchain_together",
            theirs - base,
            target=("Aideon", "<=", MOST_ADDED),
            note=f"langchain-core's chat models alone: {base:.2f} s",
        )
    ]


if __name__ == "__main__":
    main()
