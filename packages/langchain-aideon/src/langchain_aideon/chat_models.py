"""``ChatAideon``: an Aideon client as a LangChain chat model."""

# ruff: noqa: ANN401 - LangChain's signatures say Any

from __future__ import annotations

from os import PathLike, fspath
from typing import TYPE_CHECKING, Annotated, Any, Final
from weakref import WeakValueDictionary, finalize

from langchain_core.load.load import ALL_SERIALIZABLE_MAPPINGS
from langchain_core.rate_limiters import BaseRateLimiter  # noqa: TC002 - pydantic reads it
from pydantic import BeforeValidator, Field, SecretStr

from aideon_core import AsyncClient, Client, Config
from aideon_core.backends import hosts
from aideon_core.backends.llama_cpp import LlamaCppBackend
from aideon_core.config import variable
from aideon_core.errors import ConfigError
from langchain_aideon.chat import words
from langchain_aideon.chat.base import ClientChatModel
from langchain_aideon.chat.limiting import LimitedAsyncClient, LimitedClient

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Self

    from langchain_core.language_models import LangSmithParams


def _plain(target: object) -> object:
    if isinstance(target, list | tuple):
        return [_plain(each) for each in target]
    return fspath(target) if isinstance(target, PathLike) else target


def _several(stop: object) -> object:
    return [stop] if isinstance(stop, str) else stop


class _OfEnvironment(SecretStr):
    """Together's key as the environment had it; the core reads it anew for each call."""


def _hosts(cloud: object) -> list[hosts.Host]:
    models = cloud if isinstance(cloud, list) else [cloud]
    return [hosts.split(each)[0] for each in models if isinstance(each, str)]


def _default_key(fields: Mapping[str, Any]) -> SecretStr | None:
    """Together's key, where nobody else would be sent it."""
    key = variable("TOGETHER_API_KEY")
    elsewhere = [each for each in _hosts(fields.get("cloud")) if each.name != "together"]
    return _OfEnvironment(key) if key and not elsewhere else None


_Targets = Annotated[str | list[str] | None, BeforeValidator(_plain)]

# What a client is made of, of the fields.
_WORDS: Final = ("local", "cloud", "policy", "api_key", "base_url", "timeout", "max_retries")
_SAMPLING: Final = (
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "max_tokens",
    "seed",
    "presence_penalty",
    "frequency_penalty",
    "repetition_penalty",
    "logit_bias",
    "n",
    "logprobs",
    "top_logprobs",
    "deadline",
)
# Models of the same words share connections and keys' pauses: LangChain makes a model anew
# for each call of configurable_fields.
_clients: Final[WeakValueDictionary[tuple[Any, ...], Client]] = WeakValueDictionary()


class ChatAideon(ClientChatModel):
    """Answers from a local model when it can and from Together AI when it must.

    Nothing is loaded and nothing is connected before the first message. Every parameter of
    the answer may be given to a call, or bound, as well; so may ``model=``, the one model
    that the call may go to, and ``policy=``.

    Args:
        local: a catalogue id, the path of a ``.gguf`` file, or None for no local side. A list
            of them is several models, asked in that order.
        cloud: a Together model id, ``"host:model"`` for another host, or None for no cloud
            side; or a list.
        policy: ``"local-first"``, ``"cloud-first"``, ``"local-only"`` or ``"cloud-only"``.
        n_ctx: the context of the local models, in tokens, at most what each was trained for.
        api_key: the cloud's key, or where one is, such as ``"env:NAME"``;
            ``TOGETHER_API_KEY``, or the host's own variable, when not given.
        base_url: the cloud's address; ``TOGETHER_BASE_URL`` when not given.
        timeout: the longest wait for the cloud's next byte, in seconds.
        max_retries: how often the last side left is asked again after a failure that may pass.
        cloud_rate_limiter: asked before each call to the cloud, and before no other;
            LangChain's ``rate_limiter`` holds up local answers as well.
        client: a ready Client instead of the words above. It is not part of the
            serialized or pickled model, which keeps the names of its models and its policy only.
        temperature: 0 for the likeliest words, up to 2.
        top_p: sample from the likeliest words that make up this share.
        top_k: sample from this many of the likeliest words.
        min_p: leave out words less likely than this share of the likeliest one's.
        max_tokens: the longest answer, in tokens.
        stop: where to end an answer, one text or several.
        seed: makes sampling repeatable, as far as the backend can.
        presence_penalty: against words that came before, from -2 to 2.
        frequency_penalty: against words by how often they came before, from -2 to 2.
        repetition_penalty: divides what speaks for words that came before, up to 2.
        logit_bias: what to add to the logits of tokens, by their ids in one model.
        n: how many answers ``generate`` gives.
        logprobs: tell how likely the tokens were, in response_metadata.
        top_logprobs: how many alternatives to tell at each place.
        deadline: seconds for a whole answer, with every retry and fallback.
        streaming: ask for every answer in pieces, for callbacks that want them.
        profile: what the model can do; found out for the models that may answer when not
            given. Its ``max_input_tokens`` is what each of them can take.

    Raises:
        ConfigError: a model, policy or setting that does not exist.

    Example:
        .. code-block:: python

            chat = ChatAideon(policy="local-first", temperature=0)
            answer = chat.invoke("Name three primes.")
            print(answer.content)
            print(answer.response_metadata["route"]["explain"])
    """

    local: _Targets = Field(default_factory=lambda: Config.load().local)
    cloud: _Targets = Field(default_factory=lambda: Config.load().cloud)
    policy: str = Field(default_factory=lambda: Config.load().policy)
    n_ctx: int | None = None
    api_key: SecretStr | None = Field(default_factory=_default_key)
    base_url: str | None = None
    timeout: float | None = None
    max_retries: int | None = None
    cloud_rate_limiter: BaseRateLimiter | None = Field(default=None, exclude=True, repr=False)
    client: Client | None = Field(default=None, exclude=True, repr=False)
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    max_tokens: int | None = None
    stop: Annotated[list[str] | None, BeforeValidator(_several)] = None
    seed: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    repetition_penalty: float | None = None
    logit_bias: dict[int, float] | None = None
    n: int | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    deadline: float | None = None
    streaming: bool = False

    def __init__(self, **fields: Any) -> None:
        if "api_key" in fields:
            fields["api_key"] = _hidden(fields["api_key"])
        words.check(fields.keys(), type(self).model_fields, "ChatAideon")
        if isinstance(client := fields.get("client"), Client):
            fields |= _said(client, fields)
        super().__init__(**fields)

    def _words(self) -> tuple[Any, ...]:
        given = (getattr(self, name) for name in (*_WORDS, "n_ctx"))
        said = (tuple(each) if isinstance(each, list) else each for each in given)
        return (*said, type(self.api_key), self.client, self.cloud_rate_limiter)

    def _new_clients(self) -> tuple[Client, AsyncClient]:
        if self.client is None:
            key = (Config.load(), *self._words())
            client = _clients.get(key) or _clients.setdefault(key, self._own_client())
        else:
            client = self.client
            _said(client, self.__dict__)
        if self.cloud_rate_limiter is None:
            return client, AsyncClient.sharing(client)
        limited = LimitedClient.of(client, self.cloud_rate_limiter)
        return limited, LimitedAsyncClient.sharing(limited)

    def _own_client(self) -> Client:
        local: Any = self.local
        if self.n_ctx is not None and local is not None:
            models = local if isinstance(local, list) else [local]
            local = [LlamaCppBackend(each, n_ctx=self.n_ctx) for each in models]
        given = self.api_key is not None and not isinstance(self.api_key, _OfEnvironment)
        client = Client(
            local=local,
            cloud=self.cloud,
            policy=self.policy,
            api_key=self.api_key.get_secret_value() if self.api_key and given else None,
            base_url=self.base_url,
            timeout=self.timeout,
            max_retries=self.max_retries,
        )
        # Nobody else can: fields change and copies go without a word.
        finalize(client, Client.sharing(client).close)
        return client

    def _params(self, stop: list[str] | None, kwargs: Mapping[str, Any]) -> dict[str, Any]:
        return super()._params(stop or self.stop, {**self._sampling, **kwargs})

    @property
    def _sampling(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in _SAMPLING}

    @property
    def lc_secrets(self) -> dict[str, str]:
        """Where the key is found when a serialized model is loaded: by its host's name."""
        host = next(iter(_hosts(self.cloud)), hosts.HOSTS["together"])
        own = f"{host.name.upper().replace('-', '_')}_API_KEY"
        return {"api_key": host.key_variable or own}

    @property
    def lc_attributes(self) -> dict[str, Any]:
        """The sides, None included: a model without a cloud is never loaded as one with it."""
        return {"local": self.local, "cloud": self.cloud, "policy": self.policy}

    @classmethod
    def is_lc_serializable(cls) -> bool:
        """True: a model can be dumped and loaded, without its key."""
        return True

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        """A copy that keeps to the same limits: their locks cannot be copied, nor should they."""
        memo = {} if memo is None else memo
        memo |= {id(each): each for each in (self.rate_limiter, self.cloud_rate_limiter)}
        return super().__deepcopy__(memo)

    def __getstate__(self) -> dict[Any, Any]:
        """What is pickled: neither the key, which is read again, nor a client given."""
        state = super().__getstate__()
        return state | {"__dict__": state["__dict__"] | {"api_key": None, "client": None}}

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return {**self.lc_attributes, **self._sampling, "stop": self.stop}

    def _get_llm_string(self, stop: list[str] | None = None, **kwargs: Any) -> str:
        key = super()._get_llm_string(stop=stop, **kwargs)
        # What its words leave out: the addresses of its clouds, the files of its models.
        return key if self.client is None else f"{key}---{self.client!r}"

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        return super()._get_ls_params(stop=stop or self.stop, **kwargs)


# load(..., allowed_objects="all") admits the classes on this list and no others: without a
# row here a dumped ChatAideon could be loaded only by whoever knows to name its class.
_ID = tuple(ChatAideon.lc_id())
ALL_SERIALIZABLE_MAPPINGS.setdefault(_ID, _ID)


def _hidden(key: object) -> SecretStr | None:
    if key is None or isinstance(key, SecretStr):
        return key
    if isinstance(key, str):
        return SecretStr(key)
    raise ConfigError(
        f"api_key= is a {type(key).__name__}.",
        hint="It takes a key, or where one is, such as 'env:NAME'; several go to a Client's.",
    )


def _said(client: Client, fields: Mapping[str, Any]) -> dict[str, Any]:
    """The client's words; fields that say otherwise are refused."""
    if fields.get("n_ctx") is not None:
        raise ConfigError(
            "n_ctx= does not reach client=.", hint="Give it to the client's LlamaCppBackend."
        )
    return client.words({name: fields[name] for name in _WORDS if name in fields})
