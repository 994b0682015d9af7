"""Answers that are not answers: the wire's error bodies, and broken connections."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Literal, Self

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aideon_core.types import Json
    from aideon_testing.connection import HttpRequest, HttpResponse
    from aideon_testing.interception import Proceed
    from aideon_testing.wire import Reached, Stamp

_SITE = "https://api.together.ai"
_INVALID = "invalid_request_error"


class Failure(Exception):
    """An HTTP answer other than a completion, ready to be scripted, injected or raised.

    The bodies are those on record. Of endpoints_disabled, timed_out, conflict, too_large,
    unprocessable, dynamic_limited and not_routed only status, type and code are known; their
    messages are made up.

    Attributes:
        status: the HTTP status.
        body: a mapping is sent as JSON; when its ``id`` is ``None``, the id of the response
            takes its place and the JSON is indented, as Together's API does it. Text is sent
            as ``text/plain``.
        headers: sent besides the usual ones, or in their place.
        reached: how far the request came before it failed: refused by the API itself, on the
            way to an engine, by the engine, or while the model was at it. Headers tell it.
    """

    def __init__(
        self,
        status: int,
        body: Json | str,
        headers: Mapping[str, str] = MappingProxyType({}),
        *,
        reached: Reached = "api",
    ) -> None:
        super().__init__(f"HTTP {status}: {body}")
        self.status = status
        self.body = body
        self.headers = headers
        self.reached = reached

    async def intercept(
        self,
        request: HttpRequest,  # noqa: ARG002 - as all faults have it
        stamp: Stamp,  # noqa: ARG002
        proceed: Proceed,  # noqa: ARG002
    ) -> HttpResponse:
        """Answer with this failure, whatever was asked.

        Raises:
            Failure: always.
        """
        # An exception raised again keeps the frames of all times before.
        raise self.with_headers({})

    def with_headers(self, headers: Mapping[str, str]) -> Self:
        """The same failure with more headers, or others."""
        headers = {**self.headers, **headers}
        return type(self)(self.status, self.body, headers, reached=self.reached)

    def retryable(self, should_retry: bool) -> Self:  # noqa: FBT001 - its name says it
        """The same failure with the header that tells clients whether to try again."""
        return self.with_headers({"x-should-retry": str(should_retry).lower()})

    @classmethod
    def error(
        cls,
        status: int,
        message: str | Json,
        *,
        type: str = _INVALID,  # noqa: A002 - the wire's own word
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] = MappingProxyType({}),
        reached: Reached = "api",
    ) -> Self:
        """Any error in the shape the API gives its errors."""
        error = {"message": message, "type": type, "param": param, "code": code}
        return cls(status, {"id": None, "error": error}, headers, reached=reached)

    @classmethod
    def invalid_key(cls) -> Self:
        """401: the key is missing or not accepted."""
        where = f"{_SITE}/settings/api-keys"
        message = f"Invalid API key provided. You can find your API key at {where}."
        return cls.error(401, message, code="invalid_api_key")

    @classmethod
    def unauthorized(cls) -> Self:
        """401 as ``/v1/models`` sends it: no id, no type, no code."""
        return cls(401, {"error": {"message": "Unauthorized"}})

    @classmethod
    def out_of_credit(cls) -> Self:
        """402: the account has spent what it may."""
        message = (
            f"Credit limit exceeded. Please navigate to {_SITE}/settings/billing "
            "to add credit or upgrade your plan."
        )
        return cls.error(402, message, type="credit_limit")

    @classmethod
    def endpoints_disabled(cls) -> Self:
        """403: the old API makes no dedicated endpoints any more."""
        message = "Creating endpoints with this version of the API is disabled."
        return cls.error(403, message, code="endpoints_v1_create_access_disabled")

    @classmethod
    def unknown_model(cls, model: str) -> Self:
        """404: no such model."""
        message = (
            f"Unable to access model {model}. Please visit {_SITE}/models "
            "to view the list of supported models."
        )
        return cls.error(404, message, code="model_not_available")

    @classmethod
    def not_serverless(cls, model: str) -> Self:
        """400: the model exists, but only on a dedicated endpoint."""
        message = (
            f"Unable to access non-serverless model {model}. Please visit "
            f"{_SITE}/models/{model} to create and start a new dedicated "
            "endpoint for the model."
        )
        return cls.error(400, message, code="model_not_available")

    @classmethod
    def empty_prompt(cls) -> Self:
        """400: there are no messages."""
        return cls.error(400, "Prompt cannot be empty", reached="model")

    @classmethod
    def invalid_input(cls) -> Self:
        """400: a value is of the wrong kind; the wire does not say which."""
        return cls.error(400, "Input validation error", reached="engine")

    @classmethod
    def missing(cls, param: str) -> Self:
        """400: a required parameter is not there."""
        return cls.error(400, "Invalid request", param=param)

    @classmethod
    def not_multimodal(cls, model: str) -> Self:
        """400: the model cannot see; the message is an object with an error of its own."""
        inner = {
            "message": f"{model} is not a multimodal model None",
            "type": "BadRequestError",
            "param": None,
            "code": 400,
        }
        return cls.error(400, inner, reached="model")

    @classmethod
    def schema_unsupported(cls) -> Self:
        """400: the JSON schema asks for more than the engine can hold answers to."""
        message = "The provided JSON schema contains features not supported by xgrammar."
        return cls.error(400, message, reached="model")

    @classmethod
    def no_tool_parser(cls) -> Self:
        """400: the engine cannot call tools."""
        message = (
            '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set'
        )
        return cls.error(400, message, reached="model")

    @classmethod
    def over_context(
        cls,
        *,
        limit: int = 4097,
        input_tokens: int = 80125,
        max_tokens: int = 4096,
        status: Literal[400, 403] = 400,
    ) -> Self:
        """400, or 403 as documented: prompt and answer together exceed ``limit`` tokens."""
        message = (
            f"Input validation error: `inputs` tokens + `max_new_tokens` must be <= {limit}. "
            f"Given: {input_tokens} `inputs` tokens and {max_tokens} `max_new_tokens`"
        )
        return cls.error(status, message, param="max_tokens", reached="model")

    @classmethod
    def timed_out(cls) -> Self:
        """408: the request took too long to come."""
        return cls.error(408, "Request timeout")

    @classmethod
    def conflict(cls) -> Self:
        """409: something else is changing the same thing."""
        return cls.error(409, "Conflict")

    @classmethod
    def too_large(cls) -> Self:
        """413: the upload is larger than the API takes."""
        return cls.error(413, "Request entity too large", type="request_too_large")

    @classmethod
    def unprocessable(cls) -> Self:
        """422: the request is understood, and makes no sense."""
        return cls.error(422, "Unprocessable entity")

    @classmethod
    def rate_limited(
        cls,
        *,
        retry_after: float = 2,
        requests_per_second: float = 1,
        tokens_per_second: float = 1000,
    ) -> Self:
        """429: the account's limits are reached; ``retry_after`` in seconds."""
        requests, tokens = requests_per_second, tokens_per_second
        message = (
            "Request was rejected due to request rate limiting. Your rate limits are "
            f"{requests * 60:.10g} RPM ({requests:.10g} QPS) and "
            f"{tokens * 60:.10g} TPM ({tokens:.10g} TPS). "
            "See details: https://docs.together.ai/docs/rate-limits"
        )
        headers = _limits(requests, tokens, retry_after)
        return cls.error(429, message, type="rate_limit", headers=headers, reached="router")

    @classmethod
    def model_rate_limited(
        cls,
        model: str,
        *,
        retry_after: float = 6,
        requests_per_minute: float = 10,
        tokens_per_minute: int = 60000,
    ) -> Self:
        """429: the limits of one model are reached."""
        message = (
            f"You have reached the rate limit specific to this model {model}. The maximum rate "
            f"limit for this model is {float(requests_per_minute)} queries and "
            f"{tokens_per_minute} tokens per minute. This limit differs from the general rate "
            "limits published at Together AI rate limits documentation "
            "(https://docs.together.ai/docs/rate-limits). For inquiries about increasing your "
            "model-specific rate limit, please contact our sales team "
            "(https://www.together.ai/forms/contact-sales)"
        )
        headers = _limits(requests_per_minute / 60, tokens_per_minute / 60, retry_after)
        return cls.error(429, message, type="model_rate_limit", headers=headers, reached="router")

    @classmethod
    def dynamic_limited(cls, kind: Literal["request", "token"] = "request") -> Self:
        """429: above the rate that the account's recent use has earned it for this model."""
        message = "Request was rejected due to dynamic rate limiting."
        headers = {
            **_limits(1, 1000, 2),
            "x-ratelimit-limit-dynamic": "1",
            "x-ratelimit-remaining-dynamic": "0",
        }
        return cls.error(
            429, message, type=f"dynamic_{kind}_limited", headers=headers, reached="router"
        )

    @classmethod
    def server_error(cls) -> Self:
        """500: something broke inside."""
        return cls.error(500, "Internal server error", type="server_error", reached="model")

    @classmethod
    def unavailable(cls) -> Self:
        """503: the engine did not answer the API's own five tries.

        Also what requests within the dynamic rate get when there is no capacity for them.
        """
        headers = {"x-api-retries": "5"}
        return cls.error(
            503,
            "Service unavailable",
            type="service_unavailable",
            headers=headers,
            reached="engine",
        )

    @classmethod
    def not_routed(cls) -> Self:
        """503: a dedicated endpoint has no deployment to send the request to."""
        return cls.error(
            503, "No deployment to route the request to", type="routing_error", reached="router"
        )

    @classmethod
    def edge(cls, status: int = 521) -> Self:
        """A 5xx from the network in front of the API: plain text and no JSON.

        Such are 502, 504, 520, 521, 522, 524 and 529.
        """
        return cls(status, f"error code: {status}", {"cache-control": "private, no-store"})

    @classmethod
    def text(cls, status: int, message: str) -> Self:
        """An error that is a string, as older interfaces have it."""
        return cls(status, {"error": message})

    @classmethod
    def bare(cls, status: int, message: str, *, type: str = _INVALID) -> Self:  # noqa: A002 - as above
        """An error without the ``error`` around it."""
        return cls(status, {"message": message, "type": type})

    @classmethod
    def empty(cls, status: int) -> Self:
        """A status and no body."""
        return cls(status, "")

    @classmethod
    def page(cls, status: int = 200, title: str = "Just a moment...") -> Self:
        """A web page where JSON is expected, as a captive portal or a proxy sends it."""
        html = f"<!DOCTYPE html><html><head><title>{title}</title></head><body></body></html>"
        return cls(status, html, {"content-type": "text/html; charset=UTF-8"})

    @classmethod
    def redirect(cls, location: str, status: int = 307) -> Self:
        """A 3xx to another place; 307 and 308 ask for the same method there."""
        return cls(status, "", {"location": location})


def _limits(requests: float, tokens: float, retry_after: float) -> Mapping[str, str]:
    """The headers of a limit that is reached, by its rates per second."""
    return {
        "retry-after": f"{retry_after:.10g}",
        "x-ratelimit": "true",
        "x-ratelimit-limit": f"{requests:.10g}",
        "x-ratelimit-limit-tokens": f"{tokens:.10g}",
        "x-ratelimit-remaining": "0",
        "x-ratelimit-remaining-tokens": f"{tokens:.10g}",
        "x-ratelimit-reset": f"{retry_after:.10g}",
    }
