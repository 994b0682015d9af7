"""CPU time of one call through the loopback server, whole and streamed.

The server runs in another process, so that only the client's time is counted.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import httpx2
from together import Together

from aideon_core import Client

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MODEL = "meta-llama/Llama-3.3-70B-Instruct-Turbo"
# The server's default reply repeats the message, a frame for each word and mark.
SHORT, LONG = "Hello?", " ".join(["word"] * 44)
ROUNDS, CALLS = 15, 20


def contenders(url: str, text: str) -> dict[str, Callable[[], object]]:
    """The same whole answer by each way."""
    http = httpx2.Client()
    client = Client(local=None, api_key="k", base_url=url)
    together = Together(api_key="k", base_url=url)
    messages = [{"role": "user", "content": text}]
    body = {"model": MODEL, "messages": messages}
    head = {"Authorization": "Bearer k"}
    address = f"{url}/v1/chat/completions"
    return {
        "Aideon": lambda: client.chat(messages),
        "bare httpx2": lambda: http.post(address, json=body, headers=head).json(),
        "together SDK": lambda: together.chat.completions.create(model=MODEL, messages=messages),
    }


def streaming(url: str, text: str) -> dict[str, Callable[[], object]]:
    """The same streamed answer by each way."""
    client = Client(local=None, api_key="k", base_url=url)
    together = Together(api_key="k", base_url=url)
    messages = [{"role": "user", "content": text}]
    return {
        "Aideon": lambda: list(client.stream(messages)),
        "together SDK": lambda: list(
            together.chat.completions.create(model=MODEL, messages=messages, stream=True)
        ),
    }


def medians(ways: dict[str, Callable[[], object]]) -> dict[str, float]:
    """CPU milliseconds of a call, the median over rounds in which each way has its turn."""
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for way in ways.values():
        way()
    for _ in range(ROUNDS):
        for name, way in ways.items():
            started = time.process_time()
            for _ in range(CALLS):
                way()
            taken[name].append((time.process_time() - started) / CALLS * 1000)
    return {name: statistics.median(figures) for name, figures in taken.items()}


@contextmanager
def serving() -> Iterator[str]:
    """The address of a loopback server in a process of its own."""
    server = subprocess.Popen(
        [sys.executable, "-m", "aideon_testing"], stdout=subprocess.PIPE, text=True
    )
    assert server.stdout is not None
    try:
        yield server.stdout.readline().split()[-1]
    finally:
        server.terminate()
        server.wait()


def main() -> None:
    """Print a row for each peer."""
    with serving() as url:
        whole = medians(contenders(url, SHORT))
        streams = medians(streaming(url, LONG))
    rows = [
        {"what": what, "unit": "CPU ms", "ours": figures["Aideon"], "peer": peer, "theirs": theirs}
        for what, figures in (("chat", whole), ("stream of about 50 chunks", streams))
        for peer, theirs in figures.items()
        if peer != "Aideon"
    ]
    print(json.dumps(rows))


if __name__ == "__main__":
    main()
