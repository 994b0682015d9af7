"""How a chat model holds its client, which follows the model's fields, and what it tells of it."""

# ruff: noqa: ANN401 - fields are of any kind

from __future__ import annotations

from copy import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.load import dumpd
from pydantic import ConfigDict, PrivateAttr

from aideon_core.errors import BadRequest, ConfigError
from aideon_core.request import build
from aideon_core.routing import estimated, estimated_tokens
from langchain_aideon.chat import profiles
from langchain_aideon.chat.binding import as_tools
from langchain_aideon.errors import translated
from langchain_aideon.messages import to_messages

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Self

    from langchain_core.language_models import ModelProfile
    from langchain_core.messages import BaseMessage

    from aideon_core import AsyncClient, Client


@dataclass(frozen=True, slots=True)
class _Made:
    """The clients in use, and the words they were made of."""

    words: tuple[Any, ...]
    client: Client
    async_client: AsyncClient


class ClientHolder(BaseChatModel):
    """The part of a chat model that is about whom it asks, and not about asking."""

    # A mistyped parameter would otherwise vanish without a word, and a mistyped key be shown.
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    _made: _Made | None = PrivateAttr(default=None)
    _dumped: tuple[dict[str, Any], dict[str, Any]] | None = PrivateAttr(default=None)

    # Not a validator: pydantic would wrap the core's errors and take their type away.
    def __init__(self, **fields: Any) -> None:
        if isinstance(fields.get("profile"), profiles.Met):
            del fields["profile"]
        super().__init__(**fields)
        self._clients()

    def _words(self) -> tuple[Any, ...]:
        """What the clients are made of; they are made anew once it compares unequal."""
        raise NotImplementedError

    def _new_clients(self) -> tuple[Client, AsyncClient]:
        """The clients these words stand for; loads and connects nothing."""
        raise NotImplementedError

    @property
    def _client(self) -> Client:
        return self._clients().client

    @property
    def _async_client(self) -> AsyncClient:
        return self._clients().async_client

    def _clients(self) -> _Made:
        # Fields may be changed and copied at any time, so the clients follow them. A call holds
        # on to those it began with.
        words, made = self._words(), self._made
        if made is None or made.words != words:
            self._made = made = _Made(words, *self._new_clients())
        return made

    @property
    def model_name(self) -> str:
        """The models that may answer; an answer's response_metadata names the one that did."""
        return "|".join(each.model for each in profiles.reachable(self._client))

    # LangChain keeps it for good; a copy with other fields would keep this one's, and with it
    # this one's cached answers.
    @property
    def _serialized(self) -> dict[str, Any]:
        if self._dumped is None or self._dumped[0] != self.__dict__:
            fields = {
                name: copy(value) if isinstance(value, list | dict) else value
                for name, value in self.__dict__.items()
            }
            self._dumped = fields, dumpd(self)
        return self._dumped[1]

    def _resolve_model_profile(self) -> ModelProfile | None:
        return profiles.of(profiles.reachable(self._client))

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """A copy, with some fields changed; its client and its profile are of these fields."""
        other = super().model_copy(update=update, deep=deep)
        if update and isinstance(other.profile, profiles.Met):
            other.profile = other._resolve_model_profile()  # noqa: SLF001 - of this class
        return other

    def __getstate__(self) -> dict[Any, Any]:
        """What is pickled: no client, with its connections and its keys."""
        state = super().__getstate__()
        private = state.get("__pydantic_private__") or {}
        return state | {"__pydantic_private__": private | {"_made": None, "_dumped": None}}

    def get_token_ids(self, text: str) -> list[int]:
        """The tokens of a text by the local model's vocabulary; downloads nothing.

        Raises:
            ConfigError: no local model with its file here, so there is no vocabulary.
        """
        if self.custom_get_token_ids is not None:
            return self.custom_get_token_ids(text)
        with translated():
            tokens = self._client.tokens(text)
        if tokens is None:
            raise ConfigError(
                f"{self.model_name!r} has no vocabulary on this machine.",
                hint="Pull a local model, or give custom_get_token_ids=; get_num_tokens "
                "estimates without either.",
            )
        return tokens

    def get_num_tokens(self, text: str) -> int:
        """How many tokens a text has: exact with a local model, else an estimate."""
        if self.custom_get_token_ids is not None:
            return len(self.custom_get_token_ids(text))
        with translated():
            tokens = self._client.tokens(text)
        return estimated(text) if tokens is None else len(tokens)

    def get_num_tokens_from_messages(
        self, messages: list[BaseMessage], tools: Sequence[Any] | None = None
    ) -> int:
        """How many tokens a prompt has, tools included: exact with a local model, else estimated.

        What a model's template refuses is estimated too, such as the pieces of a conversation
        that ``trim_messages`` tries.
        """
        if not messages:
            return 0
        with translated():
            schemas = as_tools(tools or ())
            if self.custom_get_token_ids is not None:
                texts = [str(schema) for schema in schemas]
                return super().get_num_tokens_from_messages(messages) + sum(
                    map(self.get_num_tokens, texts)
                )
            return _counted(self._client, to_messages(messages), schemas)


def _counted(client: Client, turns: list[Any], tools: list[dict[str, Any]]) -> int:
    try:
        return client.count_tokens(turns, tools=tools)
    except BadRequest:
        return estimated_tokens(build(turns, tools=tools))
