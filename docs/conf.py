"""How Sphinx builds this documentation; ``make docs`` runs it."""

from __future__ import annotations

from importlib.metadata import version as installed
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sphinx.application import Sphinx

project = "Aideon"
author = "The Aideon authors"
project_copyright = "The Aideon authors"
version = release = installed("aideon-core")

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build", "demo", "**/.ipynb_checkpoints"]

html_theme = "furo"
html_title = f"Aideon {version}"
pygments_style = "sphinx"

# `make notebooks` runs the notebooks; a page shows them as they are kept, without outputs.
nb_execution_mode = "off"
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_class_signature = "mixed"
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 80
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True


def _without_module_docstring(
    _app: Sphinx, what: str, _name: str, _obj: object, _options: object, lines: list[str]
) -> None:
    # The pages say what a module is; its docstring is for those who read the source.
    if what == "module":
        lines.clear()


def setup(app: Sphinx) -> None:
    """Sphinx calls this once."""
    app.connect("autodoc-process-docstring", _without_module_docstring)
