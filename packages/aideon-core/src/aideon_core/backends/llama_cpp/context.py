"""llama.cpp's C interface: what a model has read, for several sequences at once."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

import llama_cpp.llama_cpp as llama
import numpy as np

from aideon_core.backends.llama_cpp.model import last_words
from aideon_core.backends.llama_cpp.options import DEFAULT_PARALLEL
from aideon_core.errors import LoadFailed, ServerError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from aideon_core.backends.llama_cpp.model import Model
    from aideon_core.backends.llama_cpp.options import ModelOptions

# What sequences beyond the first may take of the memory unless told otherwise.
_SPARE_BYTES: Final = 1 << 30
_HALF_FLOAT: Final = 2


class Context:
    """The memory of the sequences of one model; each has its own, of ``n_ctx`` tokens.

    Nothing of a sequence's memory is shared, so that what it computes does not depend on the
    others. Not safe across threads.

    Attributes:
        n_ctx: how many tokens one sequence holds.
        n_batch: how many tokens ``decode`` takes.
        n_seq: how many sequences there are.

    Raises:
        LoadFailed: there is no memory for it.
    """

    def __init__(self, model: Model, options: ModelOptions) -> None:
        trained = model.n_ctx_train
        wanted = min(options.n_ctx, trained) if trained > 0 else options.n_ctx
        n_seq = options.parallel or _sensible_parallel(model, wanted)
        threads = options.n_threads or default_threads()
        params = llama.llama_context_default_params()
        params.n_ctx, params.n_seq_max, params.kv_unified = wanted * n_seq, n_seq, False
        params.n_batch = params.n_ubatch = min(options.batch, wanted)
        params.n_threads = params.n_threads_batch = threads
        # Logits of all tokens of a batch would take hundreds of MB.
        params.n_outputs_max = n_seq
        self._handle = llama.llama_init_from_model(model.handle, params)
        if not self._handle:
            raise LoadFailed(
                f"llama.cpp cannot make {n_seq} contexts of {wanted} tokens for "
                f"{str(options.path)!r}: {last_words()}",
                hint="Lower n_ctx or parallel, or free some memory.",
            )
        self.n_seq = n_seq
        self.n_ctx = min(wanted, int(llama.llama_n_ctx_seq(self._handle)))
        # llama.cpp makes the batch smaller than asked where the context is.
        self.n_batch = int(llama.llama_n_batch(self._handle))
        self.n_vocab = model.n_vocab
        self._memory = llama.llama_get_memory(self._handle)
        self._batch = llama.llama_batch_init(self.n_batch, 0, 1)

    def close(self) -> None:
        """Free the memory; the context must not be used after."""
        llama.llama_batch_free(self._batch)
        llama.llama_free(self._handle)

    def decode(self, parts: Sequence[tuple[int, int, Sequence[int]]]) -> list[NDArray[np.float32]]:
        """Let sequences read on.

        Args:
            parts: for each its number, the position it is at, and its next tokens; together
                no more than ``n_batch``.

        Returns:
            The logits after the last token of each part, in llama.cpp's own memory, shape
            (n_vocab,); they hold until the next call, and are not to be written to.

        Raises:
            ServerError: llama.cpp failed; what the sequences have read is unknown.
        """
        batch, at = self._batch, 0
        last: list[int] = []
        for sequence, position, tokens in parts:
            for offset, token in enumerate(tokens):
                batch.token[at], batch.pos[at] = token, position + offset
                batch.n_seq_id[at], batch.seq_id[at][0], batch.logits[at] = 1, sequence, 0
                at += 1
            batch.logits[at - 1] = 1
            last.append(at - 1)
        batch.n_tokens = at
        status = llama.llama_decode(self._handle, batch)
        if status != 0:
            raise ServerError(f"llama.cpp failed to evaluate {at} tokens (status {status}).")
        shape = (self.n_vocab,)
        return [
            np.ctypeslib.as_array(llama.llama_get_logits_ith(self._handle, each), shape)
            for each in last
        ]

    def keep(self, sequence: int, tokens: int) -> bool:
        """Forget what a sequence read after its first ``tokens``; tells whether it could.

        Some architectures cannot forget a part; then the sequence is as it was.
        """
        return bool(llama.llama_memory_seq_rm(self._memory, sequence, tokens, -1))

    def clear(self, sequence: int) -> None:
        """Forget all that a sequence read."""
        llama.llama_memory_seq_rm(self._memory, sequence, -1, -1)

    def copy(self, source: int, target: int) -> None:
        """Give a sequence all that another has read."""
        self.clear(target)
        llama.llama_memory_seq_cp(self._memory, source, target, -1, -1)


def _sensible_parallel(model: Model, n_ctx: int) -> int:
    """As many sequences as fit into the spare memory, one at least."""
    handle = model.handle
    heads = max(1, int(llama.llama_model_n_head(handle)))
    width = (
        int(llama.llama_model_n_embd(handle)) // heads * int(llama.llama_model_n_head_kv(handle))
    )
    one = 2 * _HALF_FLOAT * width * int(llama.llama_model_n_layer(handle)) * n_ctx
    return max(1, min(DEFAULT_PARALLEL, _SPARE_BYTES // max(1, one) + 1))


def default_threads() -> int:
    """As many threads as decode fastest on this machine."""
    cores = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    # Beyond a few cores half of them are usually hyper-threads, which slow decoding down.
    few = 4
    return cores if cores <= few else cores // 2
