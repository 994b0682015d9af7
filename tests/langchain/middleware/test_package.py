"""The extra that the middleware need, and nobody else."""

from __future__ import annotations

import subprocess
import sys

WITHOUT = """
import sys

class Without:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "langchain":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Without())
"""


def ran(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def test_the_package_alone_needs_no_langchain():
    """Importing the models imports neither langchain nor what it needs."""
    code = "import langchain_aideon, sys; print({'langchain', 'langgraph'} & set(sys.modules))"
    assert ran(code) == (0, "set()\n")


def test_a_missing_extra_is_named():
    """Without langchain the import says which extra brings it."""
    code, said = ran(WITHOUT + "import langchain_aideon.middleware")
    assert code == 1
    assert "ImportError: langchain_aideon.middleware needs the package langchain" in said
    assert "pip install 'langchain-aideon[agents]'" in said


def test_every_public_name_is_there():
    """All that the package offers can be imported, in alphabetical order."""
    from langchain_aideon import middleware

    assert sorted(middleware.__all__) == middleware.__all__
    assert all(getattr(middleware, name) for name in middleware.__all__)
