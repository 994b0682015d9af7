"""``RunnableRouter``: whole chains, routed as models are."""

# ruff: noqa: ANN401 - inputs and outputs are the chains' own

from __future__ import annotations

from contextlib import aclosing
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from langchain_core.callbacks import adispatch_custom_event, dispatch_custom_event
from langchain_core.runnables import Runnable
from langchain_core.runnables.config import patch_config
from langchain_core.runnables.utils import Input, Output, get_unique_config_specs

from aideon_core.config import Config
from aideon_core.drive import adrive, drive
from aideon_core.errors import AideonError, ConfigError
from aideon_core.policy import Prefer, named
from aideon_core.types import Completion, Request
from langchain_aideon.errors import translated
from langchain_aideon.router.chains import Asked, Piece, legs, turns

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Sequence

    from langchain_core.callbacks import AsyncCallbackManagerForChainRun, CallbackManagerForChainRun
    from langchain_core.runnables import RunnableConfig
    from langchain_core.runnables.utils import ConfigurableFieldSpec
    from langchain_core.utils.pydantic import TypeBaseModel

    from aideon_core.policy import Plan, Policy
    from aideon_core.types import Route

ROUTE_EVENT: Final = "aideon_route"


class RunnableRouter(Runnable[Input, Output]):
    """Any Runnables as one: asked in the order of a policy, the next where one fails.

    The chain that answers runs as a child of the router's run, with its callbacks, tags and
    metadata. ``langchain_aideon.router.failures`` tells which exceptions move on to the next
    chain. A stream moves on until its first piece is out.

    The route is told to ``on_route``, and to callbacks as the custom event ``"aideon_route"``
    with the route as plain JSON; an error has it as ``error.route``.

    Args:
        local: what runs on this machine: a Runnable, or several in the order to ask them.
        cloud: what runs elsewhere, in the same way.
        policy: ``"local-first"``, ``"cloud-first"``, ``"local-only"``, ``"cloud-only"``, or a
            Policy value.
        choose: tells the policy for an input; None for ``policy``.
        on_route: is told every route, also of inputs that nobody answered.
        falls_back_on: exceptions that move on besides, such as pydantic's ValidationError.
        max_retries: how often the last chain left is asked again after a failure that may
            pass; 2 when not given.
        name: of the run.

    Raises:
        ConfigError: there is no chain, something is none, or the policy does not exist.

    Example:
        .. code-block:: python

            router = RunnableRouter(
                local=prompt | small | JsonOutputParser(),
                cloud=prompt | large | JsonOutputParser(),
                choose=lambda text: "cloud-first" if len(text) > 4000 else None,
            )
    """

    def __init__(  # noqa: PLR0913 - keyword-only, all optional
        self,
        *,
        local: Runnable[Input, Output] | Sequence[Runnable[Input, Output]] | None = None,
        cloud: Runnable[Input, Output] | Sequence[Runnable[Input, Output]] | None = None,
        policy: str | Policy = "local-first",
        choose: Callable[[Input], str | Policy | None] | None = None,
        on_route: Callable[[Route], object] | None = None,
        falls_back_on: tuple[type[Exception], ...] = (),
        max_retries: int | None = None,
        name: str | None = None,
    ) -> None:
        self._legs = {leg.name: leg for leg in (*legs(local, "local"), *legs(cloud, "cloud"))}
        if not self._legs:
            raise ConfigError("There is no chain to ask.", hint="Give local=, cloud=, or both.")
        self._max_retries = max_retries
        self.policy = self._ruled(policy)
        self._choose, self._on_route = choose, on_route
        self._falls_back_on = falls_back_on
        self._offline = Config.load().offline
        self.name = name

    def __repr__(self) -> str:
        chains = ", ".join(f"{leg.name}={leg.chain.get_name()}" for leg in self._legs.values())
        return f"{type(self).__name__}({chains}, policy={self.policy.name!r})"

    @property
    def InputType(self) -> type[Input]:  # noqa: N802 - LangChain's name
        """What the first chain takes."""
        return self._first.InputType

    @property
    def OutputType(self) -> type[Output]:  # noqa: N802 - LangChain's name
        """What the first chain gives."""
        return self._first.OutputType

    def get_input_schema(self, config: RunnableConfig | None = None) -> TypeBaseModel:
        """What the first chain takes, as a model."""
        return self._first.get_input_schema(config)

    def get_output_schema(self, config: RunnableConfig | None = None) -> TypeBaseModel:
        """What the first chain gives, as a model."""
        return self._first.get_output_schema(config)

    @property
    def config_specs(self) -> list[ConfigurableFieldSpec]:
        """What can be configured of any of the chains."""
        every = (spec for leg in self._legs.values() for spec in leg.chain.config_specs)
        return get_unique_config_specs(every)

    def invoke(self, input: Input, config: RunnableConfig | None = None, **kwargs: Any) -> Output:  # noqa: A002
        """Answer with the first chain that can.

        Raises:
            AideonError: no chain could; it is LangChain's own error too where that has one.
        """
        return self._call_with_config(self._invoke, input, config, **kwargs)

    async def ainvoke(
        self,
        input: Input,  # noqa: A002
        config: RunnableConfig | None = None,
        **kwargs: Any,
    ) -> Output:
        """Answer with the first chain that can; see ``invoke``."""
        return await self._acall_with_config(self._ainvoke, input, config, **kwargs)

    def stream(
        self,
        input: Input,  # noqa: A002
        config: RunnableConfig | None = None,
        **kwargs: Any,
    ) -> Iterator[Output]:
        """Answer in pieces, with the first chain whose first piece comes; see ``invoke``."""
        yield from self._transform_stream_with_config(iter([input]), self._stream, config, **kwargs)

    async def astream(
        self,
        input: Input,  # noqa: A002
        config: RunnableConfig | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[Output]:
        """Answer in pieces, with the first chain whose first piece comes; see ``invoke``."""
        pieces = self._atransform_stream_with_config(_one(input), self._astream, config, **kwargs)
        async with aclosing(pieces) as closing:  # type: ignore[type-var]
            async for piece in closing:
                yield piece

    def _invoke(
        self,
        input: Input,  # noqa: A002
        run_manager: CallbackManagerForChainRun,
        config: RunnableConfig,
        **kwargs: Any,
    ) -> Output:
        plan, asked = self._begun(input, run_manager, config, kwargs, stream=False)
        with translated():
            try:
                *_, last = drive(plan, asked)
            except AideonError as error:
                self._tell(error.route, config)
                raise
        self._tell(last.route, config)
        return last.output  # type: ignore[union-attr, no-any-return]

    async def _ainvoke(
        self,
        input: Input,  # noqa: A002
        run_manager: AsyncCallbackManagerForChainRun,
        config: RunnableConfig,
        **kwargs: Any,
    ) -> Output:
        plan, asked = self._begun(input, run_manager, config, kwargs, stream=False)
        with translated():
            try:
                *_, last = [item async for item in adrive(plan, asked)]
            except AideonError as error:
                await self._atell(error.route, config)
                raise
        await self._atell(last.route, config)
        return last.output  # type: ignore[union-attr, no-any-return]

    def _stream(
        self,
        inputs: Iterator[Input],
        run_manager: CallbackManagerForChainRun,
        config: RunnableConfig,
        **kwargs: Any,
    ) -> Iterator[Output]:
        plan, asked = self._begun(next(inputs), run_manager, config, kwargs, stream=True)
        items = drive(plan, asked)
        with translated():
            try:
                for item in items:
                    if isinstance(item, Piece):
                        yield item.output
                    elif isinstance(item, Completion):
                        self._tell(item.route, config)
            except AideonError as error:
                self._tell(error.route, config)
                raise
            finally:
                items.close()  # type: ignore[attr-defined]

    async def _astream(
        self,
        inputs: AsyncIterator[Input],
        run_manager: AsyncCallbackManagerForChainRun,
        config: RunnableConfig,
        **kwargs: Any,
    ) -> AsyncIterator[Output]:
        plan, asked = self._begun(await anext(inputs), run_manager, config, kwargs, stream=True)
        items = adrive(plan, asked)
        with translated():
            try:
                async for item in items:
                    if isinstance(item, Piece):
                        yield item.output
                    elif isinstance(item, Completion):
                        await self._atell(item.route, config)
            except AideonError as error:
                await self._atell(error.route, config)
                raise
            finally:
                await items.aclose()  # type: ignore[attr-defined]

    @property
    def _first(self) -> Runnable[Any, Any]:
        return next(iter(self._legs.values())).chain

    def _ruled(self, policy: str | Policy) -> Policy:
        ruled = named(policy)
        if self._max_retries is not None and isinstance(ruled, Prefer):
            return replace(ruled, max_retries=self._max_retries)
        return ruled

    def _begun(
        self,
        given: Any,
        run_manager: CallbackManagerForChainRun | AsyncCallbackManagerForChainRun,
        config: RunnableConfig,
        kwargs: dict[str, Any],
        *,
        stream: bool,
    ) -> tuple[Plan, dict[str, Asked]]:
        """A plan for one input, and the chains as they are asked for it."""
        chosen = self._choose(given) if self._choose else None
        policy = self.policy if chosen is None else self._ruled(chosen)
        asked = {
            name: Asked(
                leg,
                given,
                patch_config(config, callbacks=run_manager.get_child(f"leg:{name}")),
                kwargs,
                self._falls_back_on,
            )
            for name, leg in self._legs.items()
        }
        candidates = [leg.candidate(offline=self._offline) for leg in self._legs.values()]
        return policy.plan(Request(turns(given)), candidates, stream=stream), asked

    def _tell(self, route: Route | None, config: RunnableConfig) -> None:
        if route is not None:
            dispatch_custom_event(ROUTE_EVENT, route.as_dict(), config=config)
            if self._on_route is not None:
                self._on_route(route)

    async def _atell(self, route: Route | None, config: RunnableConfig) -> None:
        if route is not None:
            await adispatch_custom_event(ROUTE_EVENT, route.as_dict(), config=config)
            if self._on_route is not None:
                self._on_route(route)


async def _one(given: Input) -> AsyncIterator[Input]:
    yield given
