"""llama.cpp's C interface: texts to vectors. Not safe across threads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

import llama_cpp.llama_cpp as llama
import numpy as np

from aideon_core.backends.llama_cpp.context import default_threads
from aideon_core.backends.llama_cpp.model import Model, last_words
from aideon_core.backends.llama_cpp.prompts.literal import Part
from aideon_core.errors import BadRequest, ConfigError, ContextTooLong, LoadFailed, ServerError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from aideon_core.backends.llama_cpp.options import ModelOptions
    from aideon_core.embeddings import EmbeddingRequest

Pooling: TypeAlias = Literal["mean", "cls", "last"]

_POOLINGS: Final = {
    None: llama.LLAMA_POOLING_TYPE_UNSPECIFIED,
    "mean": llama.LLAMA_POOLING_TYPE_MEAN,
    "cls": llama.LLAMA_POOLING_TYPE_CLS,
    "last": llama.LLAMA_POOLING_TYPE_LAST,
}
_NO_VECTORS: Final = {
    llama.LLAMA_POOLING_TYPE_NONE: "does not say how its vectors are pooled, so it is probably "
    "not an embedding model",
    llama.LLAMA_POOLING_TYPE_RANK: "is a reranker and has no vectors",
}
_BATCH: Final = 512
# A CPU is as fast one text at a time, and then a vector is the same to the last bit whatever
# is embedded with it; side by side, rounding shows in the third digit of quantized models.
_CPU_TEXTS, _GPU_TEXTS = 1, 64
# Flash attention rounds to half floats, which moves vectors as much as quantization does.
# Without it, attention over longer texts than these would take gigabytes.
_EXACT_TOKENS: Final = 2048


@dataclass(frozen=True, slots=True)
class EncoderOptions:
    """How to load an embedding model.

    ``model`` says how its weights are loaded and, in ``parallel``, how many texts are computed
    side by side (as suits the device if None), ``n_ctx`` how many tokens of a text are read at
    most (as many as it was trained for if None), ``pooling`` how their vectors become one (as
    the file says if None).
    """

    model: ModelOptions
    n_ctx: int | None = None
    pooling: Pooling | None = None


class Encoder:
    """An embedding model in memory.

    Its context is as large as the longest text so far has needed.

    Raises:
        LoadFailed: llama.cpp cannot load the file.
        ConfigError: it is no embedding model.
    """

    def __init__(self, options: EncoderOptions) -> None:
        self._options = options
        self._file = options.model.path.name
        self._model = Model(options.model)
        self._handle: int | None = None
        trained = self._model.n_ctx_train or options.n_ctx or _BATCH
        self.n_ctx = min(options.n_ctx or trained, trained)
        self._dimension = int(llama.llama_model_n_embd_out(self._model.handle))
        try:
            self._open(min(_BATCH, self.n_ctx))
            self._check_pooling()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Free the memory; the encoder must not be used after."""
        self._free_context()
        self._model.close()

    def embed(
        self, request: EmbeddingRequest, go_on: Callable[[], bool]
    ) -> tuple[list[list[float]], int]:
        """The vectors of texts, each of length 1, and how many tokens were read.

        Args:
            request: what to embed.
            go_on: asked between batches; False stops early, with what there is.

        Raises:
            BadRequest: the model has no token for a text.
            ContextTooLong: a text does not fit, and is not to be cut.
            ServerError: llama.cpp failed.
        """
        tokens = [
            self._fitting(request.first + index, text, truncate=request.truncate)
            for index, text in enumerate(request.texts)
        ]
        longest = max((len(each) for each in tokens), default=0)
        if longest > self._capacity:
            self._free_context()
            self._open(min(self.n_ctx, 1 << (longest - 1).bit_length()))
        vectors: list[list[float]] = []
        for batch in self._batches(tokens):
            if not go_on():
                break
            vectors += self._encode(batch)
        return vectors, sum(len(each) for each in tokens)

    def _fitting(self, index: int, text: str, *, truncate: bool) -> list[int]:
        # A text is text: the spelling of a control token in it ends nothing.
        tokens = self._model.tokenize([Part(text, literal=True)])
        if not tokens:
            raise BadRequest(f"Text {index} has no tokens in the vocabulary of {self._file!r}.")
        if len(tokens) <= self.n_ctx:
            return tokens
        if not truncate:
            raise ContextTooLong(
                f"Text {index} is {len(tokens)} tokens and the model reads {self.n_ctx}.",
                hint="Embed its parts, or allow it to be cut with truncate=True.",
            )
        vocab = llama.llama_model_get_vocab(self._model.handle)
        # The token that ends every text is not the text's to lose.
        ends = int(bool(llama.llama_vocab_is_control(vocab, tokens[-1])))
        return tokens[: self.n_ctx - ends] + tokens[len(tokens) - ends :]

    def _batches(self, texts: Sequence[list[int]]) -> Iterator[list[list[int]]]:
        batch: list[list[int]] = []
        size = 0
        for tokens in texts:
            if batch and (size + len(tokens) > self._capacity or len(batch) == self._n_seq):
                yield batch
                batch, size = [], 0
            batch.append(tokens)
            size += len(tokens)
        if batch:
            yield batch

    def _encode(self, texts: Sequence[list[int]]) -> Iterator[list[float]]:
        batch, at = self._batch, 0
        for sequence, tokens in enumerate(texts):
            for position, token in enumerate(tokens):
                batch.token[at], batch.pos[at] = token, position
                batch.n_seq_id[at], batch.seq_id[at][0], batch.logits[at] = 1, sequence, 1
                at += 1
        batch.n_tokens = at
        if self._memory:
            llama.llama_memory_clear(self._memory, True)  # noqa: FBT003 - a C function
        # Models without a memory of what they read encode; those with one decode.
        encodes = not self._memory or llama.llama_model_has_encoder(self._model.handle)
        status = (llama.llama_encode if encodes else llama.llama_decode)(self._handle, batch)
        if status != 0:
            raise ServerError(f"llama.cpp failed to embed {at} tokens (status {status}).")
        for sequence in range(len(texts)):
            yield self._vector(sequence)

    def _vector(self, sequence: int) -> list[float]:
        pooled = llama.llama_get_embeddings_seq(self._handle, sequence)
        if not pooled:
            raise ServerError("llama.cpp gave no vector for a text.")
        vector = np.ctypeslib.as_array(pooled, (self._dimension,)).astype(np.float64)
        length = float(np.linalg.norm(vector))
        if not 0 < length < np.inf:
            raise ServerError(f"{self._file!r} gave a vector of the length {length}.")
        numbers: list[float] = (vector / length).tolist()
        return numbers

    def _open(self, capacity: int) -> None:
        options = self._options
        threads = options.model.n_threads or default_threads()
        params = llama.llama_context_default_params()
        # A text is pooled in one piece, so a physical batch has to hold the whole of it.
        params.n_ctx = params.n_batch = params.n_ubatch = capacity
        texts = options.model.parallel or (_GPU_TEXTS if options.model.n_gpu_layers else _CPU_TEXTS)
        params.n_seq_max, params.kv_unified = min(texts, capacity), True
        params.n_threads = params.n_threads_batch = threads
        params.embeddings, params.pooling_type = True, _POOLINGS[options.pooling]
        params.flash_attn_type = (
            llama.LLAMA_FLASH_ATTN_TYPE_DISABLED
            if self.n_ctx <= _EXACT_TOKENS
            else llama.LLAMA_FLASH_ATTN_TYPE_AUTO
        )
        self._handle = llama.llama_init_from_model(self._model.handle, params)
        if not self._handle:
            raise LoadFailed(
                f"llama.cpp cannot make a context of {capacity} tokens for "
                f"{str(options.model.path)!r}: {last_words()}",
                hint="Lower n_ctx, or free some memory.",
            )
        self._capacity = min(capacity, int(llama.llama_n_ubatch(self._handle)))
        self._n_seq = int(llama.llama_n_seq_max(self._handle))
        self._memory = llama.llama_get_memory(self._handle)
        self._batch = llama.llama_batch_init(capacity, 0, 1)

    def _free_context(self) -> None:
        if self._handle:
            llama.llama_batch_free(self._batch)
            llama.llama_free(self._handle)
            self._handle = None

    def _check_pooling(self) -> None:
        if reason := _NO_VECTORS.get(llama.llama_pooling_type(self._handle)):
            raise ConfigError(
                f"{self._file!r} {reason}.",
                hint="Give an embedding model, or say pooling= if you know how it was trained.",
            )
