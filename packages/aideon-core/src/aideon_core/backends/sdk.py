"""Official SDK clients as a way to the server: Together's and OpenAI's have the same shape."""

from __future__ import annotations

import inspect
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aideon_core.deadline import Deadline
    from aideon_core.keys import Key
    from aideon_core.transport import Response
    from aideon_core.types import Json

_SDKS = frozenset({"together", "openai"})


def is_sdk(client: object) -> bool:
    """Whether it is a client of one of the SDKs, or of a class derived from one."""
    return library(client) is not None


def library(client: object) -> str | None:
    """The SDK a client is of, ``"together"`` or ``"openai"``; None for any other."""
    roots = (kind.__module__.partition(".")[0] for kind in type(client).__mro__)
    return next((root for root in roots if root in _SDKS), None)


def awaits(client: object) -> bool:
    """Whether a client's calls are awaited: the SDKs' Async classes, and httpx's."""
    return hasattr(client, "aclose") or inspect.iscoroutinefunction(getattr(client, "close", None))


class SdkChannel:
    """Sends chats and embeddings through SDK clients, which bring their own key and settings.

    Their retries are switched off: asking again is up to the policy, within its deadline.

    Args:
        client: for blocking calls.
        async_client: for awaiting calls.
    """

    def __init__(self, client: Any | None, async_client: Any | None) -> None:  # noqa: ANN401 - of either SDK
        self._errors = import_module(library(client or async_client) or "")
        self._client = client and client.with_options(max_retries=0)
        self._async_client = async_client and async_client.with_options(max_retries=0)

    def post(self, body: Json, key: Key | None, deadline: Deadline) -> Response:  # noqa: ARG002 - theirs is sent
        """Send a request; returns once the status is there."""
        from aideon_core.transport import Response, other_kind

        if self._client is None:
            raise other_kind("client", "blocking")
        create = _resource(self._client, body).with_streaming_response.create
        try:
            answer = create(**_arguments(body, deadline)).__enter__()
        except self._errors.APIStatusError as error:
            return Response(error.response, deadline)
        except self._errors.APIConnectionError as error:
            # What went wrong is the HTTP library's error; the SDK's says only that it did.
            raise error.__cause__ or error from None
        return Response(answer.http_response, deadline)

    async def apost(self, body: Json, key: Key | None, deadline: Deadline) -> Response:  # noqa: ARG002 - theirs is sent
        """Send a request; returns once the status is there."""
        from aideon_core.transport import Response, other_kind

        if self._async_client is None:
            raise other_kind("async_client", "awaiting")
        create = _resource(self._async_client, body).with_streaming_response.create
        try:
            async with deadline.enforced():
                answer = await create(**_arguments(body, deadline)).__aenter__()
        except self._errors.APIStatusError as error:
            return Response(error.response, deadline)
        except self._errors.APIConnectionError as error:
            # What went wrong is the HTTP library's error; the SDK's says only that it did.
            raise error.__cause__ or error from None
        return Response(answer.http_response, deadline)

    def close(self) -> None:
        """Nothing: the clients are the caller's to close."""

    async def aclose(self) -> None:
        """Nothing: the clients are the caller's to close."""


def _resource(client: Any, body: Json) -> Any:  # noqa: ANN401 - of either SDK
    return client.embeddings if "input" in body else client.chat.completions


def _arguments(body: Json, deadline: Deadline) -> dict[str, Any]:
    named = {name: body[name] for name in ("model", "messages", "input", "stream") if name in body}
    rest = {name: value for name, value in body.items() if name not in named}
    arguments: dict[str, Any] = {**named, "extra_body": rest}
    if (left := deadline.left()) is not None:
        arguments["timeout"] = left
    return arguments
