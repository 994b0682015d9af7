"""Function calling: tools from Python functions.

``running`` runs the calls of a model, ``reading`` finds those that it wrote as text.
"""

from aideon_core.tools.tool import Tool, tool

__all__ = ["Tool", "tool"]
