"""Pulling a model: real bytes over loopback, interrupted in every way."""

import errno
import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest

from aideon_core import catalog
from aideon_core.config import Config
from aideon_core.errors import ConfigError, NotGguf, Offline, PullFailed, UnknownModel

CONTENT = b"GGUF" + random.Random(7).randbytes(1_500_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
OTHER = b"GGUF" + random.Random(8).randbytes(1_500_000)


class Server(ThreadingHTTPServer):
    """Serves ``content`` at every path; the attributes are its bad habits."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.content = CONTENT
        self.etag = '"one"'
        self.status = None
        self.ranges = True
        self.cut_after = None  # bytes sent of every answer before the connection breaks
        self.asked = []
        self.gate = threading.Event()  # answers wait until it is open
        self.gate.set()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/some/tiny.gguf"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_HEAD(self):
        self._answer()

    def do_GET(self):
        body = self._answer()
        cut = self.server.cut_after
        with suppress(BrokenPipeError, ConnectionResetError):  # the client may hang up first
            self.wfile.write(body if cut is None else body[:cut])
        self.close_connection = True

    def _answer(self):
        server, wanted = self.server, self.headers.get("Range", "")
        server.asked.append((self.path, wanted))
        server.gate.wait(20)
        if self.headers.get("If-Range", server.etag) != server.etag or not server.ranges:
            wanted = ""
        at = int(wanted.removeprefix("bytes=").removesuffix("-") or 0)
        body, total = server.content[at:], len(server.content)
        status = server.status or (200 if not wanted else 206 if body else 416)
        self.send_response(status)
        self.send_header("ETag", server.etag)
        self.send_header("X-Repo-Commit", "c" * 40)
        self.send_header("Accept-Ranges", "bytes")
        if status == 206:
            self.send_header("Content-Range", f"bytes {at}-{total - 1}/{total}")
        if status == 416:
            self.send_header("Content-Range", f"bytes */{total}")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        return body

    def log_message(self, *args):
        pass


@pytest.fixture
def server():
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def config(tmp_path):
    return Config(home=tmp_path / "home")


def model(*sources, content=CONTENT):
    return catalog.ModelFile(
        id="tiny",
        file="tiny.gguf",
        sha256=hashlib.sha256(content).hexdigest(),
        size=len(content),
        license="MIT",
        description="",
        chat_template=False,
        sources=sources,
    )


def incomplete(config, wanted):
    return catalog.path(config.home, wanted).with_name(f"{wanted.file}.incomplete")


def test_a_url_is_pulled_and_checked(server, config):
    """A pulled file is where the store says, whole, with nothing else beside it."""
    wanted = model(catalog.Url(server.url))
    path = catalog.pull(wanted, config=config)
    assert path == catalog.path(config.home, wanted)
    assert path.read_bytes() == CONTENT
    assert catalog.is_pulled(config.home, wanted)
    assert list(path.parent.iterdir()) == [path]


def test_what_is_pulled_is_not_pulled_again(server, config):
    """A model that is here costs no request, even when the machine is offline."""
    wanted = model(catalog.Url(server.url))
    path = catalog.pull(wanted, config=config)
    asked = len(server.asked)
    assert catalog.pull(wanted, config=Config(home=config.home, offline=True)) == path
    assert len(server.asked) == asked


def test_a_broken_connection_is_carried_on(server, config):
    """A server that breaks off again and again is asked for the rest each time."""
    server.cut_after = 400_000
    assert catalog.pull(model(catalog.Url(server.url)), config=config).read_bytes() == CONTENT
    assert [wanted for _, wanted in server.asked] == [
        "",
        "bytes=400000-",
        "bytes=800000-",
        "bytes=1200000-",
    ]


def test_the_next_run_carries_on(server, config):
    """What a failed pull brought is kept, and the next one asks for the rest only."""
    server.cut_after, server.ranges = 400_000, False
    wanted = model(catalog.Url(server.url))
    with pytest.raises(PullFailed, match="broke off"):
        catalog.pull(wanted, config=config)
    assert not catalog.is_pulled(config.home, wanted)
    server.cut_after, server.ranges = None, True
    assert catalog.pull(wanted, config=config).read_bytes() == CONTENT
    assert server.asked[-1][1] == "bytes=400000-"


def test_a_server_without_ranges_sends_all_again(server, config):
    """A server that ignores Range is read from the start, and the file is right."""
    wanted = model(catalog.Url(server.url))
    incomplete(config, wanted).parent.mkdir(parents=True)
    incomplete(config, wanted).write_bytes(CONTENT[:1000])
    server.ranges = False
    assert catalog.pull(wanted, config=config).read_bytes() == CONTENT


def test_wrong_leftovers_do_not_spoil_a_pull(server, config):
    """A partial file with wrong bytes is thrown away, and the same source asked again."""
    wanted = model(catalog.Url(server.url))
    incomplete(config, wanted).parent.mkdir(parents=True)
    incomplete(config, wanted).write_bytes(OTHER[:1000])
    assert catalog.pull(wanted, config=config).read_bytes() == CONTENT


@pytest.mark.parametrize("left", [CONTENT, CONTENT + b"more"], ids=["whole", "too long"])
def test_a_whole_leftover_needs_no_luck(server, config, left):
    """A run that died just before the check is finished by the next one."""
    wanted = model(catalog.Url(server.url))
    incomplete(config, wanted).parent.mkdir(parents=True)
    incomplete(config, wanted).write_bytes(left)
    assert catalog.pull(wanted, config=config).read_bytes() == CONTENT


def test_every_source_that_failed_is_named(server, config, tmp_path):
    """When every source fails, the error has a line for each, with its reason."""
    server.status = 404
    (tmp_path / "other.gguf").write_bytes(OTHER)
    wanted = model(catalog.Url(server.url), catalog.LocalFile(tmp_path / "other.gguf"))
    with pytest.raises(PullFailed) as caught:
        catalog.pull(wanted, config=config)
    _, url, path = caught.value.message.splitlines()
    assert url.strip().startswith("url: http://127.0.0.1:")
    assert "404 Not Found" in url
    assert SHA256 in path
    assert hashlib.sha256(OTHER).hexdigest() in path
    assert caught.value.hint
    assert not incomplete(config, wanted).exists()


def test_the_next_source_is_asked_when_one_sends_wrong_bytes(server, config, tmp_path):
    """Wrong bytes of one source do not keep another from bringing the right ones."""
    (tmp_path / "other.gguf").write_bytes(OTHER)
    wanted = model(catalog.LocalFile(tmp_path / "other.gguf"), catalog.Url(server.url))
    assert catalog.pull(wanted, config=config).read_bytes() == CONTENT


def test_a_server_with_another_file_is_not_read(server, config):
    """A file of another size is refused by its head, before its bytes cost time."""
    server.content = OTHER[:1_000_000]
    wanted = model(catalog.Url(server.url))
    with pytest.raises(PullFailed, match="has 1,000,000 bytes, expected 1,500,004"):
        catalog.pull(wanted, config=config)


def test_secrets_of_an_address_stay_secret(server, config):
    """An error names an address without the user, password and query in it."""
    server.status = 403
    address = server.url.replace("//", "//ada:hidden@") + "?signature=hidden"
    with pytest.raises(PullFailed) as caught:
        catalog.pull(address, config=config)
    assert "403" in str(caught.value)
    assert "hidden" not in str(caught.value)


def test_progress_never_goes_back(server, config):
    """Progress starts at what is there, ends at the whole and never shrinks, whatever happens."""
    wanted = model(catalog.Url(server.url))
    incomplete(config, wanted).parent.mkdir(parents=True)
    incomplete(config, wanted).write_bytes(OTHER[:700_000])
    seen = []
    catalog.pull(wanted, config=config, progress=lambda done, total: seen.append((done, total)))
    assert seen[0] == (700_000, len(CONTENT))
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert seen == sorted(seen)


def test_offline_opens_no_connection(server, config):
    """Offline, nothing is asked of the network and the error says how to do without."""
    offline = Config(home=config.home, offline=True)
    with pytest.raises(Offline, match="--from PATH"):
        catalog.pull(model(catalog.Url(server.url)), config=offline)
    assert server.asked == []


def test_a_path_works_offline(config, tmp_path):
    """The bytes of a catalogued model may come from a file, also offline."""
    (tmp_path / "mine.bin").write_bytes(CONTENT)
    offline = Config(home=config.home, offline=True)
    path = catalog.pull(model(), config=offline, source=str(tmp_path / "mine.bin"))
    assert path.name == "tiny.gguf"
    assert path.read_bytes() == CONTENT


def test_a_file_that_goes_on_is_cut_off(config, tmp_path):
    """A source that sends more than the model has is stopped, not written to the disk's end."""
    (tmp_path / "long.gguf").write_bytes(CONTENT * 3)
    wanted = model(catalog.LocalFile(tmp_path / "long.gguf"))
    with pytest.raises(PullFailed, match="more than the 1,500,004 bytes expected"):
        catalog.pull(wanted, config=config)


def test_an_address_takes_no_other_source(config):
    """A URL together with another source is refused, for one of the two would be ignored."""
    with pytest.raises(ConfigError, match="its own source"):
        catalog.pull("http://127.0.0.1:9/a.gguf", config=config, source="pypi")


def test_an_unknown_source_is_refused(config):
    """A source that is none is refused with the names of those there are."""
    with pytest.raises(ConfigError, match="Its sources: url"):
        catalog.pull(model(catalog.Url("http://127.0.0.1:9/")), config=config, source="ftp")


def test_a_string_that_is_nothing_is_an_unknown_model(config):
    """A string that is no id, no URL and no file raises UnknownModel."""
    with pytest.raises(UnknownModel, match="no-such"):
        catalog.pull("no-such.gguf", config=config)


def test_a_file_outside_the_catalogue_gets_its_own_hash(server, config):
    """A URL without a hash is taken as it comes; its hash becomes its folder and is recorded."""
    path = catalog.pull(server.url, config=config)
    assert path.read_bytes() == CONTENT
    assert path == config.home / "models" / SHA256[:16] / "tiny.gguf"
    assert path.with_name("tiny.gguf.sha256").read_text() == f"{SHA256}  tiny.gguf\n"


def test_a_file_outside_the_catalogue_is_held_to_a_given_hash(server, config, tmp_path):
    """A hash given with a URL or path is checked, and spares the second pull."""
    with pytest.raises(PullFailed, match="wrong bytes"):
        catalog.pull(server.url, config=config, sha256="0" * 64)
    assert catalog.pull(server.url, config=config, sha256=SHA256.upper()).name == "tiny.gguf"
    asked = len(server.asked)
    catalog.pull(server.url, config=config, sha256=SHA256)
    assert len(server.asked) == asked
    (tmp_path / "mine.gguf").write_bytes(CONTENT)
    assert catalog.pull(str(tmp_path / "mine.gguf"), config=config, sha256=SHA256).exists()


def test_a_file_that_changed_meanwhile_is_not_glued_together(server, config):
    """Without a hash, bytes of two versions of a file never end up in one."""
    server.cut_after, server.ranges = 400_000, False
    with pytest.raises(PullFailed):
        catalog.pull(server.url, config=config)
    server.cut_after, server.ranges = None, True
    server.content, server.etag = OTHER, '"two"'
    assert catalog.pull(server.url, config=config).read_bytes() == OTHER


def test_a_page_is_not_taken_for_a_model(server, config):
    """Without a hash, what is no GGUF file is refused."""
    server.content = b"<html>Sign in</html>"
    with pytest.raises(NotGguf):
        catalog.pull(server.url, config=config)


@pytest.mark.parametrize("sha256", ["", "abc", "g" * 64])
def test_a_hash_must_be_one(config, sha256):
    """A hash with a typing error is refused before anything is fetched."""
    with pytest.raises(ConfigError, match="64 hexadecimal digits"):
        catalog.pull("http://127.0.0.1:9/a.gguf", config=config, sha256=sha256)


def test_a_name_from_a_server_stays_in_its_folder(server, config):
    """An address cannot name a file outside the store."""
    path = catalog.pull(server.url + "/..%2F..%5C.evil", config=config)
    assert path.parent.parent == config.home / "models"
    assert path.name == "_.evil"


def test_a_full_disk_is_noticed_before(server, config, monkeypatch):
    """A disk too small is said before a byte is written, with what is missing."""
    usage = SimpleNamespace(free=500_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    wanted = model(catalog.Url(server.url))
    with pytest.raises(PullFailed, match=r"the disk is full: .* lacks 2 MB"):
        catalog.pull(wanted, config=config)
    assert not incomplete(config, wanted).exists()


def test_a_disk_that_fills_keeps_what_is_there(server, config, monkeypatch):
    """A disk that fills in the middle ends the pull, and the next one carries on."""
    real = Path.open

    @contextmanager
    def small(path, *args, **kwargs):
        with real(path, *args, **kwargs) as file:
            if path.name.endswith(".incomplete") and args == ("ab",):
                yield Full(file)
            else:
                yield file

    wanted = model(catalog.Url(server.url))
    with monkeypatch.context() as patched:
        patched.setattr(Path, "open", small)
        with pytest.raises(PullFailed, match=r"the disk is full: .* lacks \d+ MB"):
            catalog.pull(wanted, config=config)
    kept = incomplete(config, wanted).stat().st_size
    assert kept >= 500_000
    assert catalog.pull(wanted, config=config).read_bytes() == CONTENT
    assert server.asked[-1][1] == f"bytes={kept}-"


class Full:
    """A file on a disk that takes half a megabyte."""

    def __init__(self, file):
        self._file = file

    def truncate(self, size):
        self._file.truncate(size)

    def write(self, chunk):
        if self._file.tell() >= 500_000:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._file.write(chunk)


def test_a_home_that_cannot_be_written_is_named(tmp_path, server):
    """A home that is no folder gives an error that names it and the way out."""
    (tmp_path / "file").touch()
    with pytest.raises(PullFailed, match="Point AIDEON_HOME"):
        catalog.pull(model(catalog.Url(server.url)), config=Config(home=tmp_path / "file"))


CHILD = """
    import os, signal, sys
    from pathlib import Path
    from aideon_core import catalog
    from aideon_core.config import Config

    home, url, sha256, size, die_at = sys.argv[1:]

    def progress(done, total):
        if done >= int(die_at):
            os.kill(os.getpid(), signal.SIGKILL)

    model = catalog.ModelFile(
        id="tiny", file="tiny.gguf", sha256=sha256, size=int(size), license="", description="",
        chat_template=False, sources=(catalog.Url(url),),
    )
    print(catalog.pull(model, config=Config(home=Path(home)), progress=progress))
"""


def run(code, *arguments, **environment):
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
@pytest.mark.parametrize("die_at", [300_000, len(CONTENT)], ids=["amid", "before the check"])
def test_a_killed_pull_leaves_nothing_that_looks_done(server, config, die_at):
    """A process killed at any moment leaves no file taken for the model, and no lock behind."""
    wanted = model(catalog.Url(server.url))
    arguments = (config.home, server.url, wanted.sha256, wanted.size)
    assert run(CHILD, *arguments, die_at).returncode == -signal.SIGKILL
    assert not catalog.is_pulled(config.home, wanted)
    assert incomplete(config, wanted).exists()
    assert catalog.pull(wanted, config=config).read_bytes() == CONTENT


def test_two_processes_pull_once(server, config):
    """Two processes that want one model download it once, and both get it."""
    wanted = model(catalog.Url(server.url))
    arguments = (config.home, server.url, wanted.sha256, wanted.size, 10**9)
    results = []
    threads = [
        threading.Thread(target=lambda: results.append(run(CHILD, *arguments))) for _ in range(2)
    ]
    server.gate.clear()
    for thread in threads:
        thread.start()
    time.sleep(1)  # for both to start: one asks the server, the other waits for the first
    server.gate.set()
    for thread in threads:
        thread.join()
    path = catalog.path(config.home, wanted)
    assert [result.stdout.strip() for result in results] == [str(path)] * 2, results
    assert len(server.asked) == 1


HUB = """
    import sys
    from pathlib import Path
    from aideon_core import catalog
    from aideon_core.config import Config

    home, sha256, size = sys.argv[1:]
    model = catalog.ModelFile(
        id="tiny", file="tiny.gguf", sha256=sha256, size=int(size), license="", description="",
        chat_template=False, sources=(catalog.HuggingFace("org/tiny", "c" * 40, "tiny.gguf"),),
    )
    try:
        print(catalog.pull(model, config=Config(home=Path(home))))
    except catalog.pulling.PullFailed as error:
        print(error.message)
"""


def hub(server, config, **environment):
    endpoint = server.url.removesuffix("/some/tiny.gguf")
    settings = {"HF_ENDPOINT": endpoint, "HF_HOME": str(config.home), **environment}
    done = run(HUB, config.home, SHA256, len(CONTENT), **settings)
    assert done.stderr == ""
    return done.stdout.strip()


def test_the_hub_is_asked_for_the_pinned_revision(server, config):
    """A model of the Hub is pulled at its commit from HF_ENDPOINT, and resumed."""
    wanted = model()
    incomplete(config, wanted).parent.mkdir(parents=True)
    incomplete(config, wanted).write_bytes(CONTENT[:1000])
    assert hub(server, config) == str(catalog.path(config.home, wanted))
    assert server.asked == [(f"/org/tiny/resolve/{'c' * 40}/tiny.gguf", "bytes=1000-")]


@pytest.mark.parametrize(
    ("setting", "status", "reason"),
    [("1", None, "HF_HUB_OFFLINE is set"), ("0", 401, "401 Unauthorized")],
)
def test_a_hub_that_refuses_is_told_apart(server, config, setting, status, reason):
    """The Hub's own off switch is honoured, and its refusal is told with its status."""
    server.status = status
    assert reason in hub(server, config, HF_HUB_OFFLINE=setting)
