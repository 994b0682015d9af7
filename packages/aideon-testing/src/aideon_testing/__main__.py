"""``python -m aideon_testing``: serve a loopback Together API until Ctrl-C."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from contextlib import ExitStack
from typing import TYPE_CHECKING

from aideon_core.errors import AideonError
from aideon_testing.faults import Latency
from aideon_testing.gguf import GgufAnswers
from aideon_testing.limits import RateLimits
from aideon_testing.replay import Recordings, UnreadableRecording
from aideon_testing.server import LoopbackTogether

if TYPE_CHECKING:
    from collections.abc import Sequence

_READY = """\
Loopback Together server on {url}

  export TOGETHER_API_KEY={key}
  export TOGETHER_BASE_URL={url}        # together SDK, Aideon
  export TOGETHER_API_BASE={url}/v1     # langchain-together
  OpenAI-style clients: base_url="{url}/v1"

Answers come from {source}. Ctrl-C stops it."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until SIGINT or SIGTERM.

    Returns:
        0 after a signal, 1 when the port is taken or there is nothing to answer with.
    """
    options = _parser().parse_args(arguments)
    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    try:
        _serve(options, stopped)
    except (AideonError, UnreadableRecording, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m aideon_testing", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="default: any free one")
    answers = parser.add_mutually_exclusive_group()
    answers.add_argument("--gguf", metavar="MODEL", help="answer with this local model")
    answers.add_argument("--replay", metavar="DIR", help="answer with the recordings in there")
    parser.add_argument(
        "--api-key", metavar="KEY", action="append", help="accept this key only; may be repeated"
    )
    parser.add_argument(
        "--requests-per-second", metavar="RATE", type=_rate, help="limit each key; default: none"
    )
    parser.add_argument(
        "--tokens-per-second", metavar="RATE", type=_rate, help="limit each key; default: none"
    )
    parser.add_argument(
        "--latency", metavar="SECONDS", type=float, default=0, help="wait before each answer"
    )
    parser.add_argument(
        "--jitter", metavar="SECONDS", type=float, default=0, help="wait up to that much longer"
    )
    return parser


def _rate(text: str) -> float:
    if not (rate := float(text)) > 0:
        raise argparse.ArgumentTypeError(f"a rate is above 0, not {text}")
    return rate


def _serve(options: argparse.Namespace, stopped: threading.Event) -> None:
    with ExitStack() as stack:
        answers: GgufAnswers | Recordings | None = None
        source = "an empty script, which repeats the last message"
        if options.gguf:
            answers = stack.enter_context(GgufAnswers(options.gguf))
            source = options.gguf
        elif options.replay:
            answers = Recordings.load(options.replay)
            source = f"{len(answers)} recordings in {options.replay}"
        limits = RateLimits(options.requests_per_second, options.tokens_per_second)
        server = stack.enter_context(
            LoopbackTogether(answers, api_key=options.api_key, limits=limits, port=options.port)
        )
        if options.latency or options.jitter:
            server.faults.always(Latency(options.latency, options.jitter))
        print(_READY.format(url=server.base_url, key=server.api_key, source=source), flush=True)
        stopped.wait()


if __name__ == "__main__":
    sys.exit(main())
