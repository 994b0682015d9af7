"""Answers that are not answers: the wire's error bodies, and broken connections."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aideon_core.types import Json

_INVALID = "invalid_request_error"


class BrokenOff(Exception):
    """The TCP connection is closed with the answer unfinished."""


class Failure(Exception):
    """An HTTP answer other than a completion, ready to be scripted or raised.

    Attributes:
        status: the HTTP status.
        body: a mapping is sent as JSON; when its ``id`` is ``None``, the id of the response
            takes its place and the JSON is indented, as Together's API does it. Text is sent
            as ``text/plain``.
        headers: sent besides the usual ones, or in their place.
    """

    def __init__(
        self, status: int, body: Json | str, headers: Mapping[str, str] = MappingProxyType({})
    ) -> None:
        super().__init__(f"HTTP {status}: {body}")
        self.status = status
        self.body = body
        self.headers = headers

    @classmethod
    def error(
        cls,
        status: int,
        message: str,
        *,
        type: str = _INVALID,  # noqa: A002 - the wire's own word
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] = MappingProxyType({}),
    ) -> Self:
        """Any error in the shape the API gives its errors."""
        error = {"message": message, "type": type, "param": param, "code": code}
        return cls(status, {"id": None, "error": error}, headers)

    @classmethod
    def invalid_key(cls) -> Self:
        """401: the key is missing or not accepted."""
        where = "https://api.together.ai/settings/api-keys"
        message = f"Invalid API key provided. You can find your API key at {where}."
        return cls.error(401, message, code="invalid_api_key")

    @classmethod
    def unauthorized(cls) -> Self:
        """401 as ``/v1/models`` sends it: no id, no type, no code."""
        return cls(401, {"error": {"message": "Unauthorized"}})

    @classmethod
    def unknown_model(cls, model: str) -> Self:
        """404: no such model."""
        message = (
            f"Unable to access model {model}. Please visit https://api.together.ai/models "
            "to view the list of supported models."
        )
        return cls.error(404, message, code="model_not_available")

    @classmethod
    def not_serverless(cls, model: str) -> Self:
        """400: the model exists, but only on a dedicated endpoint."""
        message = (
            f"Unable to access non-serverless model {model}. Please visit "
            f"https://api.together.ai/models/{model} to create and start a new dedicated "
            "endpoint for the model."
        )
        return cls.error(400, message, code="model_not_available")

    @classmethod
    def empty_prompt(cls) -> Self:
        """400: there are no messages."""
        return cls.error(400, "Prompt cannot be empty")

    @classmethod
    def invalid_input(cls) -> Self:
        """400: a value is of the wrong kind; the wire does not say which."""
        return cls.error(400, "Input validation error")

    @classmethod
    def missing(cls, param: str) -> Self:
        """400: a required parameter is not there."""
        return cls.error(400, "Invalid request", param=param)

    @classmethod
    def over_context(
        cls, *, limit: int = 4097, input_tokens: int = 80125, max_tokens: int = 4096
    ) -> Self:
        """400: prompt and answer together do not fit into ``limit`` tokens."""
        message = (
            f"Input validation error: `inputs` tokens + `max_new_tokens` must be <= {limit}. "
            f"Given: {input_tokens} `inputs` tokens and {max_tokens} `max_new_tokens`"
        )
        return cls.error(400, message, param="max_tokens")

    @classmethod
    def rate_limited(cls, *, retry_after: float = 2) -> Self:
        """429: the account's limit of one request a second; ``retry_after`` in seconds."""
        message = (
            "Request was rejected due to request rate limiting. Your rate limits are "
            "60 RPM (1 QPS) and 60000 TPM (1000 TPS). "
            "See details: https://docs.together.ai/docs/rate-limits"
        )
        headers = {
            "retry-after": f"{retry_after:g}",
            "x-ratelimit": "true",
            "x-ratelimit-limit": "1",
            "x-ratelimit-limit-tokens": "1000",
            "x-ratelimit-remaining": "0",
            "x-ratelimit-remaining-tokens": "1000",
            "x-ratelimit-reset": f"{retry_after:g}",
        }
        return cls.error(429, message, type="rate_limit", headers=headers)

    @classmethod
    def server_error(cls) -> Self:
        """500: something broke inside."""
        return cls.error(500, "Internal server error", type="server_error")

    @classmethod
    def unavailable(cls) -> Self:
        """503: the engine did not answer the API's own five tries."""
        headers = {"x-api-retries": "5"}
        return cls.error(503, "Service unavailable", type="service_unavailable", headers=headers)

    @classmethod
    def edge(cls, status: int = 521) -> Self:
        """A 5xx from the network in front of the API: plain text and no JSON."""
        return cls(status, f"error code: {status}", {"cache-control": "private, no-store"})
