"""``aideon doctor`` tells what is installed, what it can use, and what the cloud answers."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import textwrap
from dataclasses import replace
from functools import partial
from importlib.metadata import PackageNotFoundError, version

import pytest

from aideon_core import Config, cli, doctor
from aideon_core.backends.llama_cpp import machine
from aideon_core.doctor import examine
from aideon_testing import Failure

MODEL = "meta-llama/Llama-3.3-70B-Instruct-Turbo"


@pytest.fixture
def config(together_env, tmp_path):
    return Config(home=tmp_path, cloud=MODEL, local=None, together_base_url=together_env.base_url)


def told(config, subject):
    return [finding for finding in examine(config) if finding.subject == subject]


def test_a_sound_installation_has_no_problem(config):
    """With everything in place, no finding is a problem."""
    assert {finding.level for finding in examine(config)} <= {"ok", "note"}
    (model,) = told(config, "cloud model")
    assert model.level == "ok"


def test_a_model_the_server_does_not_list_names_the_nearest(config, tmp_path, together):
    """A wrong cloud model is a problem, with the names that come near."""
    wrong = Config(
        home=tmp_path,
        cloud="meta-llama/Llama-3.3-70B-Instruct-Trubo",
        local=None,
        together_base_url=together.base_url,
    )
    (model,) = told(wrong, "cloud model")
    assert model.level == "problem"
    assert MODEL in model.hint


def test_a_refused_key_is_a_problem(config, together):
    """A key the server refuses is told with what to check, and not repeated."""
    together.keys.revoke("loopback")
    (cloud,) = told(config, "Together AI")
    assert (cloud.level, "loopback" in cloud.message) == ("problem", False)


def test_no_key_is_a_problem(config, monkeypatch):
    """Without a key the variable to set is named."""
    monkeypatch.delenv("TOGETHER_API_KEY")
    (cloud,) = told(config, "Together AI")
    assert "TOGETHER_API_KEY" in cloud.hint


def test_a_server_that_fails_is_a_problem(config, together):
    """An error of the server is told as it came."""
    together.faults.always(Failure.unavailable())
    (cloud,) = told(config, "Together AI")
    assert "503" in cloud.message


def test_a_local_model_that_is_missing_says_how_to_pull_it(config, tmp_path):
    """The local side is looked at without loading it."""
    local = Config(home=tmp_path, cloud=None, local="qwen2.5-coder-0.5b-instruct")
    (model,) = told(local, "local model")
    assert model.level == "problem"
    assert "aideon pull" in model.hint


def test_the_command_prints_findings_and_fails_on_problems(config, capsys, monkeypatch, tmp_path):
    """`aideon doctor` exits 1 when something is wrong, and --json gives the same to scripts."""
    monkeypatch.setenv("AIDEON_HOME", str(tmp_path))
    assert cli.main(["doctor"]) == 1
    assert "problem  local model: " in capsys.readouterr().out
    assert cli.main(["doctor", "--json"]) == 1
    findings = json.loads(capsys.readouterr().out)
    assert {"level", "subject", "message", "hint"} == set(findings[0])


def test_what_the_server_has_new_is_told(config, monkeypatch):
    """Fields, prices and kinds of models that this version has no name for are notes."""
    from aideon_testing.endpoints import models

    row = models.model_row(MODEL)
    row |= {"shiny": 1, "type": "hologram", "pricing": {**row["pricing"], "hologram": 3}}
    monkeypatch.setattr(models, "model_row", lambda *_: row)
    notes = " ".join(finding.message for finding in told(config, "wire"))
    for name in ("field", "shiny", "price", "hologram", "model type"):
        assert name in notes


@pytest.fixture
def local(config, tmp_path):
    """A configuration whose local model is a file that is here."""
    model = tmp_path / "small.gguf"
    model.write_bytes(b"GGUF" + bytes(1_000_000))
    return replace(config, cloud=None, local=str(model))


@pytest.fixture
def build(monkeypatch, tmp_path):
    """Installs a llama-cpp-python of a given source in front of the real one."""

    def install(source):
        package = tmp_path / "site" / "llama_cpp"
        package.mkdir(parents=True)
        (package / "__init__.py").write_text("__version__ = '9.9'\n")
        (package / "llama_cpp.py").write_text(textwrap.dedent(source))
        monkeypatch.setenv("PYTHONPATH", str(package.parent))

    return install


CUDA = """
    class _lib:
        def ggml_backend_dev_count(): return 2
        def ggml_backend_dev_get(index): return index + 7
        def ggml_backend_dev_name(device): return {7: b"CUDA0", 8: b"CPU"}[device]
        def ggml_backend_dev_description(device): return {7: b"H100 ", 8: b"EPYC"}[device]
        def ggml_backend_dev_type(device): return {7: 1, 8: 0}[device]
        def ggml_backend_dev_memory(device, free, total):
            free._obj.value, total._obj.value = device * 10**9, 80 * 10**9

    def llama_print_system_info(): return b"CUDA : ARCHS = 900 | CPU : AVX2 = 1 | FMA = 0 | "
    def llama_supports_gpu_offload(): return True
"""
NO_GPU = """
    _lib = None
    def llama_print_system_info(): return {info!r}
    def llama_supports_gpu_offload(): return False
"""


def test_the_build_tells_what_it_was_built_to_use(local):
    """The installed llama-cpp-python and what goes with it are told with their versions."""
    found = {finding.subject: finding for finding in examine(local)}
    assert {finding.level for finding in found.values()} <= {"ok", "note"}
    assert version("llama-cpp-python") in found["llama-cpp-python"].message
    for name in ("llguidance", "numpy"):
        assert version(name) in found[name].message


def test_without_a_gpu_the_cpu_is_said_to_be_used(local, build, monkeypatch):
    """Neither the build nor the machine knows of a GPU: that is told too, and is no fault."""
    build(NO_GPU.format(info=b"CPU : AVX2 = 1 | "))
    monkeypatch.setattr(machine, "GPUS", ())
    (gpu,) = told(local, "GPU")
    assert (gpu.level, "CPU alone" in gpu.message) == ("ok", True)


def test_looking_at_the_build_loads_nothing_into_this_process(local):
    """llama.cpp is asked in a process of its own: a bad build cannot take this one along."""
    script = f"""
        import sys
        from pathlib import Path
        from aideon_core import Config
        from aideon_core.doctor import examine
        print([f.level for f in examine(Config(cloud=None, local={local.local!r}))])
        print(sys.modules.keys() & {{"llama_cpp", "numpy", "llguidance"}})
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=True
    )
    levels, loaded = done.stdout.splitlines()
    assert "problem" not in levels
    assert loaded == "set()"


def test_a_gpu_that_the_build_uses_is_named_with_its_memory(local, build):
    """A build for a GPU tells which it sees, how much is free, and how to use it."""
    build(CUDA)
    (gpu,) = told(local, "GPU")
    assert gpu.message == "CUDA0, H100: 7.0 of 80.0 GB free"
    assert "n_gpu_layers" in gpu.hint
    (llama,) = told(local, "llama-cpp-python")
    assert llama.message == "9.9, built to use AVX2"


@pytest.mark.parametrize("kind", machine.GPUS, ids=lambda kind: kind.title)
def test_a_gpu_that_the_build_cannot_use_is_a_note(local, build, monkeypatch, kind):
    """A GPU beside a build for the CPU alone comes with the command that builds for it."""
    build(NO_GPU.format(info=b"CPU : AVX2 = 1 | "))
    monkeypatch.setattr(machine, "GPUS", (replace(kind, is_here=lambda: True),))
    (gpu,) = told(local, "GPU")
    assert (gpu.level, kind.title in gpu.message) == ("note", True)
    assert f'CMAKE_ARGS="{kind.cmake_args}" pip install --force-reinstall' in gpu.hint


def test_a_build_for_a_gpu_that_sees_none_is_not_told_to_be_built_again(local, build, monkeypatch):
    """Where the build is right and the GPU hidden, the hint is where to look."""
    build(NO_GPU.format(info=b"CUDA : ARCHS = 900 | CPU : AVX2 = 1 | "))
    monkeypatch.setattr(machine, "GPUS", (replace(machine.GPUS[0], is_here=lambda: True),))
    (gpu,) = told(local, "GPU")
    assert (gpu.level, "CUDA_VISIBLE_DEVICES" in gpu.hint) == ("note", True)
    assert "pip" not in gpu.hint


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("raise OSError('libcudart.so.12: cannot open')", "libcudart.so.12: cannot open"),
        ("raise ImportError('no symbol llama_free')", "no symbol llama_free"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGILL)", "SIGILL"),
        ("import os; os._exit(3)", "exit code 3"),
    ],
)
def test_a_broken_build_is_a_problem_and_no_crash(local, build, source, reason):
    """A build that cannot be loaded, or kills who loads it, is told with how to build anew."""
    build(source)
    (llama,) = told(local, "llama-cpp-python")
    assert (llama.level, reason in llama.message) == ("problem", True)
    assert "--force-reinstall" in llama.hint


@pytest.mark.parametrize("compiler", ["g++", None])
def test_a_missing_build_says_how_to_get_one(local, monkeypatch, compiler):
    """Without the extra: the command, and whether the compiler that it takes is there."""
    monkeypatch.setitem(sys.modules, "llama_cpp", None)
    monkeypatch.setattr(shutil, "which", lambda name: name if name == compiler else None)
    problems = [finding for finding in examine(local) if finding.level == "problem"]
    (llama,) = problems
    assert llama.subject == "llama-cpp-python"
    assert "aideon-core[local]" in llama.hint
    assert ("g++ is here" if compiler else "none is on the PATH") in llama.hint


def test_a_package_that_went_missing_is_a_problem(local, monkeypatch):
    """An engine whose grammar library is gone is not called sound."""
    monkeypatch.setattr(doctor, "version", partial(_absent, "llguidance"))
    (grammar,) = told(local, "llguidance")
    assert (grammar.level, "aideon-core[local]" in grammar.hint) == ("problem", True)


def _absent(missing, name):
    if name == missing:
        raise PackageNotFoundError(name)
    return version(name)


def test_a_model_larger_than_the_memory_is_a_problem(local, monkeypatch):
    """The file's size is held against the machine's memory before anything is loaded."""
    (fits,) = told(local, "memory")
    assert (fits.level, "the machine has" in fits.message) == ("ok", True)
    monkeypatch.setattr(machine, "memory", lambda: 900_000)
    (memory,) = told(local, "memory")
    assert (memory.level, "smaller model" in memory.hint) == ("problem", True)


def test_a_model_larger_than_the_limit_set_is_a_problem(local):
    """What local_memory_gb does not allow is told before the first request fails by it."""
    (memory,) = told(replace(local, local_memory_gb=0.0005), "memory")
    assert (memory.level, "local_memory_gb" in memory.message) == ("problem", True)


def test_a_containers_limit_is_the_memory_there_is(monkeypatch, tmp_path):
    """In a container its own limit counts, not the machine's memory; "max" is no limit."""
    limit = tmp_path / "memory.max"
    monkeypatch.setattr(machine, "_CGROUP", limit)
    limit.write_text("max\n")
    whole = machine.memory()
    limit.write_text("5000000\n")
    assert machine.memory() == 5_000_000
    assert whole is None or whole > 5_000_000
