"""How a leg is asked: as a part of the run that asks, and within its deadline."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from contextlib import contextmanager
from contextvars import copy_context
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.runnables.config import var_child_runnable_config

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextvars import ContextVar

    from langchain_core.runnables import RunnableConfig

    from aideon_core.deadline import Deadline

T = TypeVar("T")


def unheard() -> RunnableConfig:
    """A config that inherits no handlers; those a model was made with are its own."""
    return {"callbacks": []}


@contextmanager
def one_run() -> Iterator[None]:
    """Keep a model that is asked inside from telling the handlers of the context.

    They hear of the run that asks, and would count its tokens twice. These are the tracers,
    ``get_usage_metadata_callback`` and whatever else reaches every run by a context variable.
    """
    from langsmith import tracing_context

    quiet: list[tuple[ContextVar[Any], Any]] = [
        (variable, None)
        for variable, value in copy_context().items()
        if isinstance(value, BaseCallbackHandler)
    ]
    # What is bound to a model takes the handlers of the context, whatever it is told.
    if (config := var_child_runnable_config.get()) is not None:
        quiet.append((var_child_runnable_config, {**config, "callbacks": None}))
    tokens = [(variable, variable.set(value)) for variable, value in quiet]
    try:
        with tracing_context(enabled=False):
            yield
    finally:
        for variable, token in tokens:
            variable.reset(token)


def done(call: Callable[[], T], deadline: Deadline, name: str) -> T:
    """What a blocking call gives.

    Where there is a deadline it runs in a thread, which is left to itself when that passes.

    Raises:
        TimedOut: the deadline passed.
    """
    left = deadline.left()
    if left is None:
        with one_run():
            return call()
    given: Future[T] = Future()
    target = partial(copy_context().run, _settle, given, call)
    threading.Thread(target=target, name=name, daemon=True).start()
    try:
        return given.result(left)
    except TimeoutError:
        # The call's own is told as what it is.
        if given.done():
            raise
        raise deadline.passed() from None


def _settle(given: Future[T], call: Callable[[], T]) -> None:
    try:
        with one_run():
            given.set_result(call())
    except BaseException as error:  # noqa: BLE001 - raised where it is waited for
        given.set_exception(error)
