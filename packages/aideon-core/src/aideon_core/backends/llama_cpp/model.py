"""llama.cpp's C interface: one loaded model with one context. Not safe across threads."""

from __future__ import annotations

import codecs
import ctypes
import logging
import os
from collections import deque
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING

import llama_cpp.llama_cpp as llama

from aideon_core.backends.llama_cpp.literal import Part
from aideon_core.errors import BadRequest, ContextTooLong, LoadFailed, ServerError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from aideon_core.backends.llama_cpp.options import ModelOptions
    from aideon_core.types import Request

_log = logging.getLogger("aideon_core.llama_cpp")

# A small model that is not told otherwise: warm, within a cut tail.
DEFAULT_TEMPERATURE = 0.7
DEFAULT_TOP_P = 0.95
DEFAULT_TOP_K = 40
_RANDOM_SEED = 0xFFFFFFFF
_PENALTY_WINDOW = 256
_GGML_LOG_LEVEL_WARN, _GGML_LOG_LEVEL_ERROR = 3, 4


class Model:
    """A model in memory.

    Raises:
        LoadFailed: llama.cpp cannot load the file.
    """

    def __init__(self, options: ModelOptions) -> None:
        llama.llama_backend_init()
        llama.llama_log_set(_on_log, ctypes.c_void_p(0))
        _recent.clear()
        params = llama.llama_model_default_params()
        params.n_gpu_layers = options.n_gpu_layers
        self._model = llama.llama_model_load_from_file(os.fsencode(options.path), params)
        if not self._model:
            raise LoadFailed(
                f"llama.cpp cannot load {str(options.path)!r}: {_last_words()}",
                hint="The file may be damaged, or newer than the installed llama-cpp-python.",
            )
        self._vocab = llama.llama_model_get_vocab(self._model)
        self._context = self._open_context(options)
        self.n_ctx = int(llama.llama_n_ctx(self._context))
        # llama.cpp makes the batch smaller than asked where the context is.
        self._n_batch = int(llama.llama_n_batch(self._context))
        self._memory = llama.llama_get_memory(self._context)
        self._cached: list[int] = []
        self._piece = ctypes.create_string_buffer(256)

    def _open_context(self, options: ModelOptions) -> int:
        threads = options.n_threads or _default_threads()
        params = llama.llama_context_default_params()
        trained = llama.llama_model_n_ctx_train(self._model)
        params.n_ctx = min(options.n_ctx, trained) if trained > 0 else options.n_ctx
        params.n_batch = params.n_ubatch = options.n_batch
        params.n_threads = params.n_threads_batch = threads
        # Logits of one token at a time: for all of a batch they would take hundreds of MB.
        params.n_outputs_max = 1
        context = llama.llama_init_from_model(self._model, params)
        if not context:
            llama.llama_model_free(self._model)
            raise LoadFailed(
                f"llama.cpp cannot make a context of {params.n_ctx} tokens for "
                f"{str(options.path)!r}: {_last_words()}",
                hint="Lower n_ctx, or free some memory.",
            )
        return int(context)

    def close(self) -> None:
        """Free the memory; the model must not be used after."""
        llama.llama_free(self._context)
        llama.llama_model_free(self._model)

    @property
    def chat_template(self) -> str | None:
        """The Jinja source in the file, None when it carries none."""
        source = llama.llama_model_chat_template(self._model, None)
        return source.decode("utf-8") if source else None

    @property
    def bos(self) -> str:
        """The text of the beginning-of-sequence token."""
        return self._token_text(llama.llama_vocab_bos(self._vocab))

    @property
    def eos(self) -> str:
        """The text of the end-of-sequence token."""
        return self._token_text(llama.llama_vocab_eos(self._vocab))

    def _token_text(self, token: int) -> str:
        if token < 0:
            return ""
        return bytes(llama.llama_vocab_get_text(self._vocab, token)).decode("utf-8", "replace")

    @cached_property
    def control(self) -> frozenset[str]:
        """The texts of the tokens that end turns, begin them, and the like."""
        vocab = self._vocab
        control = (
            token
            for token in range(llama.llama_vocab_n_tokens(vocab))
            if llama.llama_vocab_is_control(vocab, token)
        )
        return frozenset(text for token in control if (text := self._token_text(token)))

    def tokenize(self, prompt: Sequence[Part]) -> list[int]:
        """The tokens of a rendered prompt, with a beginning token if the model wants one."""
        tokens: list[int] = []
        # A template usually writes the token itself; twice would change the answer.
        first = prompt[0] if prompt else Part("")
        adds = first.literal or not (self.bos and first.text.startswith(self.bos))
        for part in prompt:
            tokens += self._tokens_of(part, add_special=adds)
            adds = False
        return tokens

    def _tokens_of(self, part: Part, *, add_special: bool) -> list[int]:
        text = part.text.encode("utf-8")
        size = len(text) + 2
        tokens = (llama.llama_token * size)()
        count = llama.llama_tokenize(
            self._vocab, text, len(text), tokens, size, add_special, not part.literal
        )
        if count < 0:
            raise ServerError(f"llama.cpp could not tokenize a prompt of {len(text)} bytes.")
        return list(tokens[:count])

    def prefill(self, tokens: Sequence[int], go_on: Callable[[], bool]) -> int:
        """Read a prompt into the context; how many of its tokens were there already.

        Args:
            tokens: the whole prompt.
            go_on: asked between batches; False stops early.

        Raises:
            BadRequest: the prompt is empty.
            ContextTooLong: the prompt leaves no room for an answer.
        """
        if not tokens:
            raise BadRequest(
                "The prompt is empty once the chat template is applied.",
                hint="Send a message with text, or check chat_template=.",
            )
        if len(tokens) >= self.n_ctx:
            raise ContextTooLong(
                f"The prompt is {len(tokens)} tokens and the model's context holds {self.n_ctx}.",
                hint="Shorten the messages, raise n_ctx, or use a model with a larger context.",
            )
        shared = _common(self._cached, tokens[:-1])
        if not llama.llama_memory_seq_rm(self._memory, 0, shared, -1):
            # Some architectures cannot forget a part of what they read.
            llama.llama_memory_clear(self._memory, True)
            shared = 0
        del self._cached[shared:]
        for start in range(shared, len(tokens), self._n_batch):
            if not go_on():
                break
            self._decode(tokens[start : start + self._n_batch])
        return shared

    def _decode(self, tokens: Sequence[int]) -> None:
        array = (llama.llama_token * len(tokens))(*tokens)
        status = llama.llama_decode(self._context, llama.llama_batch_get_one(array, len(tokens)))
        if status != 0:
            llama.llama_memory_clear(self._memory, True)
            self._cached.clear()
            raise ServerError(f"llama.cpp failed to evaluate tokens (status {status}).")
        self._cached.extend(tokens)

    def generate(self, request: Request) -> Iterator[bytes]:
        """The pieces of the answer to the prompt read, until the model ends it."""
        with self._sampler(request) as sampler:
            while True:
                token = llama.llama_sampler_sample(sampler, self._context, -1)
                if llama.llama_vocab_is_eog(self._vocab, token):
                    return
                yield self._piece_of(token)
                self._decode((token,))

    def _piece_of(self, token: int) -> bytes:
        size = llama.llama_token_to_piece(
            self._vocab,
            token,
            self._piece,
            len(self._piece),
            0,
            False,
        )
        if size < 0:
            self._piece = ctypes.create_string_buffer(-size)
            return self._piece_of(token)
        return self._piece.raw[:size]

    @contextmanager
    def _sampler(self, request: Request) -> Iterator[int]:
        chain = llama.llama_sampler_chain_init(llama.llama_sampler_chain_default_params())
        try:
            for link in self._links(request):
                llama.llama_sampler_chain_add(chain, link)
            yield chain
        finally:
            llama.llama_sampler_free(chain)

    def _links(self, request: Request) -> Iterator[int]:
        frequency, presence = request.frequency_penalty or 0.0, request.presence_penalty or 0.0
        if frequency or presence:
            n_vocab = llama.llama_vocab_n_tokens(self._vocab)
            yield llama.llama_sampler_init_penalties(
                n_vocab, _PENALTY_WINDOW, 1.0, frequency, presence
            )
        if request.temperature == 0:
            yield llama.llama_sampler_init_greedy()
            return
        temperature = DEFAULT_TEMPERATURE if request.temperature is None else request.temperature
        yield llama.llama_sampler_init_top_k(DEFAULT_TOP_K)
        top_p = DEFAULT_TOP_P if request.top_p is None else request.top_p
        yield llama.llama_sampler_init_top_p(top_p, 1)
        yield llama.llama_sampler_init_temp(temperature)
        yield llama.llama_sampler_init_dist(
            _RANDOM_SEED if request.seed is None else request.seed & _RANDOM_SEED
        )


def utf8() -> codecs.IncrementalDecoder:
    """Joins pieces that split a character; a token may hold half an emoji."""
    return codecs.getincrementaldecoder("utf-8")("replace")


def _common(cached: Sequence[int], tokens: Sequence[int]) -> int:
    pairs = enumerate(zip(cached, tokens, strict=False))
    return next((i for i, (a, b) in pairs if a != b), min(len(cached), len(tokens)))


def _default_threads() -> int:
    cores = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    # Beyond a few cores half of them are usually hyper-threads, which slow decoding down.
    few = 4
    return cores if cores <= few else cores // 2


_recent: deque[str] = deque(maxlen=20)


@llama.llama_log_callback  # type: ignore[untyped-decorator]
def _on_log(level: int, text: bytes, _user_data: ctypes.c_void_p) -> None:
    if level in (_GGML_LOG_LEVEL_WARN, _GGML_LOG_LEVEL_ERROR):
        line = text.decode("utf-8", "replace").strip()
        _log.debug("%s", line)
        if level == _GGML_LOG_LEVEL_ERROR:
            _recent.append(line)


def _last_words() -> str:
    return "; ".join(_recent) or "it gives no reason"
