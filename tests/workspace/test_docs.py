"""The documentation holds: its code runs, and its links lead somewhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from threading import Timer

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    page
    for page in (
        *ROOT.glob("*.md"),
        *ROOT.glob("packages/*/README.md"),
        *(ROOT / "docs").rglob("*.md"),
    )
    if "_build" not in page.parts
)
BLOCK = re.compile(r"^```python(?P<cloud> cloud)?\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)
PYTHON_FENCE = re.compile(r"^[ \t]*(?:```+|~~~+)[ \t]*\{?(?:py|code-cell)", re.MULTILINE)
FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\((?!https?://|mailto:|#)(?P<target>[^)\s#]+)")
SECONDS = 300

# Reads pages, one a line, and runs the blocks of each in a namespace of its own, as a reader
# pastes them; answers with the traceback, if there is one, and a line that ends it. Blocks
# marked `cloud` see a key and the loopback server, the others no key at all. One process does
# all pages, because the frameworks take long to import and the model to load.
READER = """
import os, sys, traceback
from pathlib import Path

replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
os.dup2(2, 1)

import pytest_socket
from aideon_core import Client
from aideon_testing import LoopbackTogether
from test_docs import BLOCK, END

def read(page, cloud):
    text = page.read_text(encoding="utf-8")
    namespace = {"__name__": "__main__"}
    for block in BLOCK.finditer(text):
        for name, value in cloud.items():
            os.environ.pop(name, None)
            if block["cloud"]:
                os.environ[name] = value
        # Empty lines before it make a traceback name the page's own lines.
        code = "\\n" * text.count("\\n", 0, block.start("code")) + block["code"]
        exec(compile(code, str(page), "exec"), namespace)

pytest_socket.socket_allow_hosts(["127.0.0.1", "::1"], allow_unix_socket=True)
keeps_the_model_loaded = Client(policy="local-only")
keeps_the_model_loaded.chat("Hello", max_tokens=1)
with LoopbackTogether() as together:
    cloud = {"TOGETHER_API_KEY": "loopback", "TOGETHER_BASE_URL": together.base_url}
    for line in sys.stdin:
        try:
            read(Path(line.strip()), cloud)
        except BaseException:
            replies.write(traceback.format_exc())
        print(END, file=replies, flush=True)
"""
END = "--- end of the page ---"


def name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@pytest.fixture(scope="module")
def reader(local_model, tmp_path_factory):
    """A process that runs the pages it is given; None is the answer where all went well."""
    folder = tmp_path_factory.mktemp("reader")
    keyless = {k: v for k, v in os.environ.items() if not k.startswith(("AIDEON_", "TOGETHER_"))}
    environ = keyless | {
        "AIDEON_HOME": str(local_model.path.parents[2]),
        "PYTHONPATH": str(Path(__file__).parent),
        # CrewAI would report to its makers, and keep its state in the user's folders.
        "CREWAI_DISABLE_TELEMETRY": "true",
        "CREWAI_DISABLE_VERSION_CHECK": "true",
        "CREWAI_STORAGE_DIR": str(folder),
        "CREWAI_TESTING": "true",
        "CREWAI_TRACING_ENABLED": "false",
        "OTEL_SDK_DISABLED": "true",
    }
    log = folder / "log"
    with (
        log.open("wb") as stderr,
        subprocess.Popen(
            [sys.executable, "-c", READER],
            cwd=folder,
            env=environ,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        ) as process,
    ):

        def run(page: Path) -> str | None:
            print(page, file=process.stdin, flush=True)
            limit = Timer(SECONDS, process.kill)
            limit.start()
            said = []
            for line in process.stdout:
                if line.strip() == END:
                    break
                said.append(line)
            else:
                said.append(f"the reader died: {log.read_text(errors='replace')[-2000:]}")
            limit.cancel()
            return "".join(said) or None

        yield run


@pytest.mark.slow
@pytest.mark.model
@pytest.mark.parametrize(
    "page", [p for p in PAGES if BLOCK.search(p.read_text(encoding="utf-8"))], ids=name
)
def test_every_python_block_runs_as_pasted(page, reader):
    """A reader who pastes a page's Python blocks in order gets no error."""
    trouble = reader(page)

    assert trouble is None, trouble


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_python_block_is_found(page):
    """No Python block escapes the test above by its fence."""
    text = page.read_text(encoding="utf-8")

    assert len(BLOCK.findall(text)) == len(PYTHON_FENCE.findall(text))


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_relative_link_leads_to_a_file(page):
    """A reader who follows a link within the repository finds what it names."""
    text = FENCED.sub("", page.read_text(encoding="utf-8"))

    targets = [match["target"] for match in LINK.finditer(text)]

    assert [target for target in targets if not (page.parent / target).exists()] == []
