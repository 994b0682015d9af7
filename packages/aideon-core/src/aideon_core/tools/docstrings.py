"""What a docstring says about a function and its parameters."""

from __future__ import annotations

from typing import Any


def described(function: object) -> tuple[str, dict[str, str]]:
    """The description of a function, and of each parameter its docstring tells of.

    Google's, NumPy's and Sphinx's styles are understood. The description is what comes
    before the first section.
    """
    import docstring_parser

    documented: Any = function if hasattr(function, "__name__") else type(function).__call__
    parsed = docstring_parser.parse(documented.__doc__ or "")
    parameters: dict[str, str] = {}
    for each in parsed.params:
        # NumPy's style describes several at once.
        for name in each.arg_name.split(","):
            parameters[name.strip().lstrip("*")] = " ".join((each.description or "").split())
    return (parsed.description or "").strip(), {
        name: text for name, text in parameters.items() if text
    }
