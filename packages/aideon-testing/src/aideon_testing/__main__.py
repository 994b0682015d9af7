"""``python -m aideon_testing``: serve a loopback Together API until Ctrl-C."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from contextlib import ExitStack
from typing import TYPE_CHECKING

from aideon_core.errors import AideonError
from aideon_testing.gguf import GgufAnswers
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
        0 after a signal, 1 when the port is taken or the model cannot be used.
    """
    parser = argparse.ArgumentParser(prog="python -m aideon_testing", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="default: any free one")
    parser.add_argument("--gguf", metavar="MODEL", help="answer with this local model")
    parser.add_argument("--api-key", metavar="KEY", help="accept this key only")
    options = parser.parse_args(arguments)
    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    try:
        _serve(options, stopped)
    except (AideonError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _serve(options: argparse.Namespace, stopped: threading.Event) -> None:
    with ExitStack() as stack:
        answers = None
        if options.gguf:
            answers = stack.enter_context(GgufAnswers(options.gguf))
        server = LoopbackTogether(answers, api_key=options.api_key, port=options.port)
        stack.enter_context(server)
        key = options.api_key or "loopback"
        source = options.gguf or "an empty script, which repeats the last message"
        print(_READY.format(url=server.base_url, key=key, source=source), flush=True)
        stopped.wait()


if __name__ == "__main__":
    sys.exit(main())
