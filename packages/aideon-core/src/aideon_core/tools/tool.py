"""Tools: functions that a model may ask to be called."""

from __future__ import annotations

import asyncio
import inspect
import re
from functools import cached_property, partial, update_wrapper
from typing import TYPE_CHECKING, Any, Final, Generic, ParamSpec, TypeVar, overload

from aideon_core.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

P = ParamSpec("P")
R = TypeVar("R")

_NAME: Final = re.compile(r"[A-Za-z0-9_]{1,64}")


class Tool(Generic[P, R]):
    """A function with what a model has to know of it; calling the tool calls the function.

    Args:
        function: any callable whose parameters have names. Its annotations say what a model
            may give, its docstring what for.
        name: what the model calls it; the function's own name when not given.
        description: what it does; the docstring's when not given.
        strict: ask servers that know of it to keep to the schema to the letter.

    Attributes:
        function: the function.
        name: what the model calls it.
        strict: whether servers are asked to keep to the schema.

    Raises:
        ConfigError: the name has other characters than letters, digits and underscores, or
            the function's parameters cannot be given by name.
    """

    def __init__(
        self,
        function: Callable[P, R],
        *,
        name: str | None = None,
        description: str | None = None,
        strict: bool = False,
    ) -> None:
        if not callable(function):
            raise ConfigError(
                f"{function!r} is no tool.",
                hint="A tool is a function; put @tool below @classmethod, not above it.",
            )
        update_wrapper(self, function, updated=())
        self.function = function
        self.name = _name_of(function) if name is None else name
        self.strict = strict
        self._description = description
        if _NAME.fullmatch(self.name) is None:
            raise ConfigError(
                f"A tool cannot be named {self.name!r}.",
                hint="Servers take up to 64 letters, digits and underscores; give name=.",
            )
        from aideon_core.tools.parameters import Parameters

        self._parameters = Parameters(function, self.name)

    @classmethod
    def of(cls, function: Callable[P, R] | Tool[P, R]) -> Tool[P, R]:
        """The tool itself, or the one that a function makes."""
        return function if isinstance(function, Tool) else cls(function)

    @cached_property
    def _described(self) -> tuple[str, dict[str, str]]:
        from aideon_core.tools.docstrings import described

        return described(_innermost(self.function))

    @property
    def description(self) -> str:
        """What it does, in words for the model."""
        return self._described[0] if self._description is None else self._description

    @cached_property
    def parameters(self) -> dict[str, Any]:
        """The JSON Schema of its arguments.

        Raises:
            ConfigError: an annotation leads nowhere, or has no JSON.
        """
        return self._parameters.schema(self._described[1], closed=self.strict)

    @property
    def schema(self) -> dict[str, Any]:
        """The tool as OpenAI's API defines it."""
        function: dict[str, Any] = {"name": self.name}
        if self.description:
            function["description"] = self.description
        function["parameters"] = self.parameters
        if self.strict:
            function["strict"] = True
        return {"type": "function", "function": function}

    def call(self, arguments: str | Mapping[str, object] = "{}") -> Any:  # noqa: ANN401 - what the function gives
        """Call the function with arguments as a model writes them, and wait for its result.

        They are checked, and converted to the types that the annotations name. An async
        function runs on an event loop of its own.

        Args:
            arguments: the JSON text of an object, or the object.

        Raises:
            BadArguments: they do not fit; the function was not called.
            Exception: whatever the function raises.
        """
        bound = self._parameters.bind(arguments)
        result = self.function(*bound.args, **bound.kwargs)
        return _awaited(result) if inspect.isawaitable(result) else result

    async def acall(self, arguments: str | Mapping[str, object] = "{}") -> Any:  # noqa: ANN401 - what the function gives
        """Call the function as ``call`` does, without blocking the event loop.

        An async function is awaited here, any other runs in a thread.
        """
        bound = self._parameters.bind(arguments)
        if _is_async(self.function):
            result: Any = self.function(*bound.args, **bound.kwargs)
        else:
            result = await asyncio.to_thread(_called, self.function, bound)
        return await result if inspect.isawaitable(result) else result

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function as if it were no tool."""
        return self.function(*args, **kwargs)

    def __get__(self, instance: object, owner: type | None = None) -> Tool[..., R]:
        bind = getattr(self.function, "__get__", None)
        if instance is None or bind is None:
            return self
        bound = bind(instance, owner)
        return Tool(bound, name=self.name, description=self._description, strict=self.strict)

    def __repr__(self) -> str:
        return f"Tool({self.name!r})"


@overload
def tool(
    function: Callable[P, R],
    /,
    *,
    name: str | None = None,
    description: str | None = None,
    strict: bool = False,
) -> Tool[P, R]: ...


@overload
def tool(
    *, name: str | None = None, description: str | None = None, strict: bool = False
) -> Callable[[Callable[P, R]], Tool[P, R]]: ...


def tool(
    function: Callable[P, R] | None = None,
    /,
    *,
    name: str | None = None,
    description: str | None = None,
    strict: bool = False,
) -> Tool[P, R] | Callable[[Callable[P, R]], Tool[P, R]]:
    """Make a tool of a function; a decorator, with arguments or without.

    Args:
        function: any callable whose parameters have names.
        name: what the model calls it; the function's own name when not given.
        description: what it does; the docstring's when not given.
        strict: ask servers that know of it to keep to the schema to the letter.

    Raises:
        ConfigError: it cannot be a tool, or not by that name.
    """
    make = partial(Tool[P, R], name=name, description=description, strict=strict)
    return make if function is None else make(function)


def _innermost(function: object) -> object:
    while isinstance(function, partial):
        function = function.func
    return function


def _name_of(function: object) -> str:
    function = _innermost(function)
    name: str = getattr(function, "__name__", type(function).__name__)
    return name


def _is_async(function: object) -> bool:
    function = _innermost(function)
    called = getattr(function, "__call__", None)  # noqa: B004 - what it is, not whether
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(called)


def _called(function: Callable[..., Any], bound: inspect.BoundArguments) -> object:
    try:
        return function(*bound.args, **bound.kwargs)
    except StopIteration as error:
        # No future can carry it, and who awaits one would wait forever.
        raise RuntimeError("the tool raised StopIteration") from error


def _awaited(result: Awaitable[R]) -> R:
    from concurrent.futures import ThreadPoolExecutor

    async def wait() -> R:
        return await result

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(wait())
    # A notebook's loop is running already, and a loop cannot run inside another.
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, wait()).result()
