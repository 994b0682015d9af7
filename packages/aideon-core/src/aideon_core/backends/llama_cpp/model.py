"""llama.cpp's C interface: the weights and the vocabulary of one model."""

from __future__ import annotations

import ctypes
import logging
import os
from collections import deque
from functools import cached_property
from typing import TYPE_CHECKING

import llama_cpp.llama_cpp as llama

from aideon_core.backends.llama_cpp.forms.vocabulary import Vocabulary
from aideon_core.backends.llama_cpp.prompts.formats import FORMATS
from aideon_core.errors import LoadFailed, ServerError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aideon_core.backends.llama_cpp.options import ModelOptions
    from aideon_core.backends.llama_cpp.prompts.literal import Part

_log = logging.getLogger("aideon_core.llama_cpp")
_GGML_LOG_LEVEL_WARN, _GGML_LOG_LEVEL_ERROR = 3, 4
_MERGES_WITH_NOTHING = b"\x01"


class Model:
    """A model's weights in memory. Not safe across threads.

    Args:
        options: how to load it.
        weights: whether to load more than the vocabulary.

    Raises:
        LoadFailed: llama.cpp cannot load the file.
    """

    def __init__(self, options: ModelOptions, *, weights: bool = True) -> None:
        llama.llama_backend_init()
        llama.llama_log_set(_on_log, ctypes.c_void_p(0))
        _recent.clear()
        params = llama.llama_model_default_params()
        params.n_gpu_layers = options.n_gpu_layers
        params.vocab_only = not weights
        if options.main_gpu is not None:
            params.split_mode = llama.LLAMA_SPLIT_MODE_NONE
            params.main_gpu = options.main_gpu
        self.handle = llama.llama_model_load_from_file(os.fsencode(options.path), params)
        if not self.handle:
            raise LoadFailed(
                f"llama.cpp cannot load {str(options.path)!r}: {last_words()}",
                hint="The file may be damaged, or newer than the installed llama-cpp-python.",
            )
        self._vocab = llama.llama_model_get_vocab(self.handle)
        self.n_vocab = int(llama.llama_vocab_n_tokens(self._vocab))
        self._buffer = ctypes.create_string_buffer(256)

    def close(self) -> None:
        """Free the memory; the model must not be used after."""
        llama.llama_model_free(self.handle)

    @property
    def size(self) -> int:
        """The weights in bytes."""
        return int(llama.llama_model_size(self.handle))

    @property
    def n_ctx_train(self) -> int:
        """The longest context it was trained for, in tokens; 0 when the file does not say."""
        return int(llama.llama_model_n_ctx_train(self.handle))

    @property
    def chat_template(self) -> str | None:
        """The Jinja source in the file, None when it carries none."""
        source = llama.llama_model_chat_template(self.handle, None)
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
    def control(self) -> dict[str, int]:
        """The tokens that end turns, begin them, and the like, by their texts."""
        vocab = self._vocab
        control = [
            token for token in range(self.n_vocab) if llama.llama_vocab_is_control(vocab, token)
        ]
        return {text: token for token in control if (text := self._token_text(token))}

    @cached_property
    def visible(self) -> frozenset[int]:
        """Control tokens that are part of how calls are written, and so of the text."""
        written = [text for known in FORMATS for text in known.texts]
        return frozenset(
            token for text, token in self.control.items() if any(text in each for each in written)
        )

    @cached_property
    def end(self) -> frozenset[int]:
        """The tokens that end an answer."""
        tokens = range(self.n_vocab)
        ends = frozenset(t for t in tokens if llama.llama_vocab_is_eog(self._vocab, t))
        return ends - self.visible

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """The vocabulary as grammars read it."""
        hidden = frozenset(self.control.values()) - self.visible
        pieces = [self._rendered(token, special=True) for token in range(self.n_vocab)]
        return Vocabulary(
            pieces,
            control=hidden,
            end=sorted(self.end),
            tokenize=lambda text: self._tokens_after(text, parse_special=False),
        )

    def tokenize(self, prompt: Sequence[Part]) -> list[int]:
        """The tokens of a rendered prompt, with a beginning token if the model wants one."""
        tokens: list[int] = []
        # A template usually writes the token itself; twice would change the answer.
        first = prompt[0] if prompt else None
        adds = first is None or first.literal or not (self.bos and first.text.startswith(self.bos))
        for part in prompt:
            text, special = part.text.encode("utf-8"), not part.literal
            if part is first:
                tokens += self._tokens_of(text, add_special=adds, parse_special=special)
            else:
                tokens += self._tokens_after(text, parse_special=special)
        return tokens

    def text_tokens(self, text: str) -> list[int]:
        """The tokens of a text that is part of a longer one; none of it is a control token."""
        return self._tokens_after(text.encode("utf-8"), parse_special=False)

    def _tokens_after(self, text: bytes, *, parse_special: bool) -> list[int]:
        """The tokens of a text that goes on from another."""
        # Some vocabularies put a space before every text; it comes before a byte that merges
        # with nothing, and goes with it.
        lead = _MERGES_WITH_NOTHING if self._puts_space else b""
        tokens = self._tokens_of(lead + text, add_special=False, parse_special=parse_special)
        return tokens[self._puts_space :]

    @cached_property
    def _puts_space(self) -> int:
        """How many tokens a text gets that begins with a lone byte, 0 if no space is put there."""
        tokens = self._tokens_of(_MERGES_WITH_NOTHING, add_special=False, parse_special=False)
        written = b"".join(self._rendered(token, special=False) for token in tokens)
        return 0 if written == _MERGES_WITH_NOTHING else len(tokens)

    def _tokens_of(self, text: bytes, *, add_special: bool, parse_special: bool) -> list[int]:
        size = len(text) + 2
        tokens = (llama.llama_token * size)()
        count = llama.llama_tokenize(
            self._vocab, text, len(text), tokens, size, add_special, parse_special
        )
        if count < 0:
            raise ServerError(f"llama.cpp could not tokenize a prompt of {len(text)} bytes.")
        return list(tokens[:count])

    def piece(self, token: int) -> bytes:
        """What a token adds to the text; may be half a character."""
        return self._rendered(token, special=token in self.visible)

    def _rendered(self, token: int, *, special: bool) -> bytes:
        size = llama.llama_token_to_piece(
            self._vocab, token, self._buffer, len(self._buffer), 0, special
        )
        if size < 0:
            self._buffer = ctypes.create_string_buffer(-size)
            return self._rendered(token, special=special)
        return self._buffer.raw[:size]


_recent: deque[str] = deque(maxlen=20)


@llama.llama_log_callback  # type: ignore[untyped-decorator]
def _on_log(level: int, text: bytes, _user_data: ctypes.c_void_p) -> None:
    if level in (_GGML_LOG_LEVEL_WARN, _GGML_LOG_LEVEL_ERROR):
        line = text.decode("utf-8", "replace").strip()
        _log.debug("%s", line)
        if level == _GGML_LOG_LEVEL_ERROR:
            _recent.append(line)


def last_words() -> str:
    """The last errors that llama.cpp logged."""
    return "; ".join(_recent) or "it gives no reason"
