"""Embeddings from GGUF files, in process."""

from __future__ import annotations

import asyncio
import gc
import math
import os
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import gguf
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aideon_core import AsyncClient, Client
from aideon_core.backends.llama_cpp.embedding.embedder import LlamaCppEmbedder, _Worker
from aideon_core.embeddings import EmbeddingRequest
from aideon_core.errors import (
    ConfigError,
    ContextTooLong,
    LoadFailed,
    NotGguf,
    TimedOut,
    UnknownModel,
)

pytest.importorskip("llama_cpp")

MINILM = Path(__file__).parents[2].parent / "shared/models/all-minilm-l6-v2-q8_0.gguf"
needs_minilm = pytest.mark.skipif(not MINILM.exists(), reason="the shared model is not here")

WIDTH, WIDE, HEADS, CONTEXT = 32, 64, 2, 64
LETTERS = [chr(ord("a") + n) for n in range(26)]
WORDPIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *(f"\u2581{each}" for each in LETTERS), *LETTERS]
PIECES = ["<unk>", "<s>", "</s>", *(f"<0x{n:02X}>" for n in range(256)), "\u2581", *LETTERS]
PRINTABLE = st.characters(exclude_categories=("C", "Z"), include_characters=" ")
TEXTS = st.lists(st.text(PRINTABLE, min_size=1, max_size=20), max_size=6)


class Weights:
    """Writes random tensors, the same ones every time."""

    def __init__(self, writer):
        self._writer = writer
        self._random = np.random.default_rng(7)

    def matrix(self, name, *shape):
        weights = self._random.normal(0, 0.2, shape).astype(np.float32)
        self._writer.add_tensor(f"{name}.weight", weights)

    def norm(self, name, *, bias=True):
        self._writer.add_tensor(f"{name}.weight", np.ones(WIDTH, np.float32))
        if bias:
            self.bias(name, WIDTH)

    def bias(self, name, size):
        self._writer.add_tensor(f"{name}.bias", np.zeros(size, np.float32))


def shaped(path, architecture, pooling, context=CONTEXT):
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_context_length(context)
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(WIDE)
    writer.add_block_count(1)
    writer.add_head_count(HEADS)
    if pooling is not None:
        writer.add_pooling_type(pooling)
    return writer


def written(writer):
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def write_bert(path, pooling=gguf.PoolingType.MEAN, context=CONTEXT):
    """An encoder that knows letters; it reads a text of n letters as n + 2 tokens."""
    writer = shaped(path, "bert", pooling, context)
    writer.add_layer_norm_eps(1e-12)
    writer.add_causal_attention(value=False)
    writer.add_token_type_count(2)
    writer.add_tokenizer_model("bert")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(WORDPIECES)
    writer.add_token_types([gguf.TokenType.CONTROL] * 4 + [1] * (len(WORDPIECES) - 4))
    writer.add_unk_token_id(1)
    writer.add_bos_token_id(2)
    writer.add_sep_token_id(3)
    writer.add_eos_token_id(3)
    weights = Weights(writer)
    weights.matrix("token_embd", len(WORDPIECES), WIDTH)
    weights.matrix("position_embd", context, WIDTH)
    weights.matrix("token_types", 2, WIDTH)
    weights.norm("token_embd_norm")
    for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
        weights.matrix(f"blk.0.{name}", WIDTH, WIDTH)
        weights.bias(f"blk.0.{name}", WIDTH)
    weights.norm("blk.0.attn_output_norm")
    weights.matrix("blk.0.ffn_up", WIDE, WIDTH)
    weights.bias("blk.0.ffn_up", WIDE)
    weights.matrix("blk.0.ffn_down", WIDTH, WIDE)
    weights.bias("blk.0.ffn_down", WIDTH)
    weights.norm("blk.0.layer_output_norm")
    written(writer)


def write_decoder(path, pooling=gguf.PoolingType.LAST):
    """A causal model, which reads a text from left to right and remembers."""
    writer = shaped(path, "qwen2", pooling)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_tokenizer_model("llama")
    writer.add_token_list(PIECES)
    writer.add_token_scores([0.0] * len(PIECES))
    kinds = [gguf.TokenType.UNKNOWN, *[gguf.TokenType.CONTROL] * 2]
    kinds += [gguf.TokenType.BYTE] * 256 + [gguf.TokenType.NORMAL] * 27
    writer.add_token_types(kinds)
    writer.add_unk_token_id(0)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    weights = Weights(writer)
    weights.matrix("token_embd", len(PIECES), WIDTH)
    weights.norm("output_norm", bias=False)
    weights.norm("blk.0.attn_norm", bias=False)
    weights.norm("blk.0.ffn_norm", bias=False)
    for name in ("attn_q", "attn_k", "attn_v"):
        weights.matrix(f"blk.0.{name}", WIDTH, WIDTH)
        weights.bias(f"blk.0.{name}", WIDTH)
    weights.matrix("blk.0.attn_output", WIDTH, WIDTH)
    weights.matrix("blk.0.ffn_gate", WIDE, WIDTH)
    weights.matrix("blk.0.ffn_up", WIDE, WIDTH)
    weights.matrix("blk.0.ffn_down", WIDTH, WIDE)
    written(writer)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    write_bert(folder / "bert.gguf")
    write_bert(folder / "cls.gguf", gguf.PoolingType.CLS)
    write_bert(folder / "bare.gguf", None)
    write_bert(folder / "rerank.gguf", gguf.PoolingType.RANK)
    write_bert(folder / "long.gguf", context=1500)
    write_decoder(folder / "decoder.gguf")
    return folder


@pytest.fixture(scope="module", params=["bert", "decoder"])
def embedder(request, folder):
    return LlamaCppEmbedder(folder / f"{request.param}.gguf", n_threads=1)


def ask(*texts, **options):
    return EmbeddingRequest.of(texts, **options)


def cosine(one, other):
    return sum(a * b for a, b in zip(one, other, strict=True))


def test_a_client_embeds_with_a_file(folder):
    """A path is all it takes: vectors of length 1 in order, their model, tokens, and no cost."""
    with Client(local=None, embedding=folder / "bert.gguf") as client:
        vectors = client.embed(["abc", "xyz", "abc"])
    assert len(vectors) == 3
    assert vectors.dimension == WIDTH
    assert vectors[0] == vectors[2] != vectors[1]
    assert math.hypot(*vectors[1]) == pytest.approx(1)
    assert vectors.model == "bert.gguf"
    assert vectors.usage.input_tokens == 15
    assert vectors.cost == 0
    assert vectors.route.side == "local"
    assert client.embed("abc")[0] == vectors[0]


def test_awaited_vectors_are_the_same(folder):
    """The awaiting client gives the same vectors, many calls at once."""
    blocking = Client(local=None, embedding=LlamaCppEmbedder(folder / "bert.gguf", n_threads=1))
    texts = [chr(ord("a") + n) * (n + 1) for n in range(20)]

    async def all_at_once():
        client = AsyncClient.sharing(blocking)
        return await asyncio.gather(*(client.embed(text) for text in texts))

    assert [each[0] for each in asyncio.run(all_at_once())] == list(blocking.embed(texts))


@settings(max_examples=40, deadline=None)
@given(texts=TEXTS)
def test_a_vector_depends_on_its_text_alone(embedder, texts):
    """Whatever is embedded with it, a text has the same vector, to the last bit."""
    together = embedder.embed(ask(*texts, truncate=True))
    assert list(together) == [embedder.embed(ask(text, truncate=True))[0] for text in texts]


@pytest.mark.parametrize("model", ["bert", "decoder"])
def test_texts_side_by_side_have_nearly_the_same_vectors(folder, model):
    """Many sequences in one batch change nothing but rounding, and keep their order."""
    texts = [chr(ord("a") + n % 26) * (1 + n % 30) for n in range(100)]
    alone = LlamaCppEmbedder(folder / f"{model}.gguf", n_threads=1).embed(ask(*texts))
    packed = LlamaCppEmbedder(folder / f"{model}.gguf", n_threads=1, parallel=16)
    pairs = zip(packed.embed(ask(*texts)), alone, strict=True)
    assert min(cosine(one, other) for one, other in pairs) > 0.99999


def test_a_text_too_long_is_named_with_both_counts(embedder):
    """Nothing is cut in silence: the error names the text, its tokens and the limit."""
    with pytest.raises(ContextTooLong, match=r"Text 1 is \d+ tokens and the model reads 64"):
        embedder.embed(ask("short", "a" * 100))


def test_the_number_of_a_text_too_long_is_the_callers(folder):
    """However the texts are sent, the error counts them as the caller does; no side is next."""
    client = Client(local=None, embedding=LlamaCppEmbedder(folder / "bert.gguf", n_threads=1))
    with pytest.raises(ContextTooLong, match=r"Text 150 ") as caught:
        client.embed(["abc"] * 150 + ["a" * 100])
    assert caught.value.route.attempts[0].backend == "local"


def test_truncate_reads_the_beginning_and_keeps_the_end_token(folder):
    """With truncate=True a long text has the vector of what fits, read as a whole text."""
    client = Client(local=None, embedding=LlamaCppEmbedder(folder / "bert.gguf", n_threads=1))
    long, fits = client.embed(["a" * 100, "a" * (CONTEXT - 2)], truncate=True)
    assert long == fits


def test_n_ctx_limits_what_is_read(folder):
    """A smaller n_ctx is the limit that errors name; a larger one is the model's own."""
    small = LlamaCppEmbedder(folder / "bert.gguf", n_ctx=8, n_threads=1)
    with pytest.raises(ContextTooLong, match=r"is 12 tokens and the model reads 8"):
        small.embed(ask("abcdefghij"))
    large = LlamaCppEmbedder(folder / "bert.gguf", n_ctx=10_000, n_threads=1)
    with pytest.raises(ContextTooLong, match=r"the model reads 64"):
        large.embed(ask("a" * 100))


def test_a_long_text_makes_the_context_larger(folder):
    """Memory grows with the texts, up to what the model reads, and no vector changes by it."""
    embedder = LlamaCppEmbedder(folder / "long.gguf", n_threads=1)
    before = embedder.embed(ask("abc", "b" * 500))
    assert embedder.embed(ask("a" * 1000, "b" * 1498)).usage.input_tokens == 1002 + 1500
    assert embedder.embed(ask("abc", "b" * 500)).vectors == before.vectors
    with pytest.raises(ContextTooLong, match=r"is 1501 tokens and the model reads 1500"):
        embedder.embed(ask("b" * 1499))


def test_pooling_is_the_files_unless_told(folder):
    """The file says how vectors are pooled; pooling= says it where the file does not."""
    said = LlamaCppEmbedder(folder / "cls.gguf", n_threads=1).embed(ask("abc"))
    mean = LlamaCppEmbedder(folder / "bert.gguf", n_threads=1).embed(ask("abc"))
    told = LlamaCppEmbedder(folder / "bare.gguf", n_threads=1, pooling="cls").embed(ask("abc"))
    assert told.vectors == said.vectors
    assert cosine(said[0], mean[0]) < 0.999


@pytest.mark.parametrize(
    ("model", "said"), [("bare", "how its vectors are pooled"), ("rerank", "reranker")]
)
def test_a_model_that_does_not_embed_is_refused(folder, model, said):
    """A file without pooling, or with that of a reranker, is an error that says so."""
    with pytest.raises(ConfigError, match=said):
        Client(local=None, embedding=folder / f"{model}.gguf").embed("abc")


def test_a_wrong_file_is_refused_at_once(tmp_path):
    """A missing file, and one that is no GGUF, are errors where the client is made."""
    (tmp_path / "not.gguf").write_bytes(b"PK\x03\x04")
    with pytest.raises(NotGguf):
        Client(local=None, embedding=tmp_path / "not.gguf")
    with pytest.raises(UnknownModel):
        Client(local=None, embedding="nowhere/model.gguf")


def test_a_damaged_file_is_an_error_of_ours(folder, tmp_path):
    """A file that llama.cpp cannot load raises LoadFailed, each time it is asked."""
    damaged = tmp_path / "damaged.gguf"
    damaged.write_bytes((folder / "bert.gguf").read_bytes()[:2000])
    embedder = LlamaCppEmbedder(damaged)
    for _ in range(2):
        with pytest.raises(LoadFailed, match=r"damaged\.gguf"):
            embedder.embed(ask("abc"))


@pytest.mark.parametrize("words", [{"n_ctx": 0}, {"parallel": -1}, {"pooling": "max"}])
def test_wrong_options_are_refused(folder, words):
    """An option that cannot be is a ConfigError that names it."""
    with pytest.raises(ConfigError, match=next(iter(words))):
        LlamaCppEmbedder(folder / "bert.gguf", **words)


def test_threads_share_one_model(embedder):
    """Eight threads get what one thread gets."""
    texts = ["abc", "the quick brown fox", "z", "hello"] * 5
    serial = list(embedder.embed(ask(*texts)))
    with ThreadPoolExecutor(8) as pool:
        assert [each[0] for each in pool.map(lambda t: embedder.embed(ask(t)), texts)] == serial


def test_one_model_is_in_memory_once_and_then_not_at_all(folder):
    """Embedders of one file share its model; when all have closed, it is gone."""
    gc.collect()
    before = len(_Worker.live())
    first, second = (LlamaCppEmbedder(folder / "cls.gguf", n_threads=1) for _ in range(2))
    assert first.embed(ask("abc")).vectors == second.embed(ask("abc")).vectors
    assert len(_Worker.live()) == before + 1
    first.close()
    second.close()
    gc.collect()
    assert len(_Worker.live()) == before
    assert first.embed(ask("abc")).dimension == WIDTH


def test_a_deadline_ends_the_wait(folder):
    """Who waits behind others longer than the deadline gets TimedOut, and is not computed."""
    embedder = LlamaCppEmbedder(folder / "cls.gguf", n_threads=1)
    embedder.embed(ask("warm"))
    held, going = threading.Event(), threading.Event()

    class Holding:
        """A job that takes until it is let go."""

        def __init__(self):
            self.result = Future()

        def run(self, encoder, go_on):
            going.set()
            held.wait(20)

    embedder._worker.submit(Holding())
    going.wait(20)
    try:
        with pytest.raises(TimedOut, match="deadline"):
            embedder.embed(ask("abc", deadline=0.05))
        with pytest.raises(TimedOut, match="deadline"):
            asyncio.run(embedder.aembed(ask("abc", deadline=0.05)))
    finally:
        held.set()
    assert embedder.embed(ask("abc", deadline=20)).dimension == WIDTH


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_process_is_told(folder):
    """A model loaded before a fork is refused in the child, which would wait for ever."""
    embedder = LlamaCppEmbedder(folder / "bert.gguf", n_threads=1)
    embedder.embed(ask("abc"))
    child = os.fork()
    if child == 0:
        try:
            embedder.embed(ask("abc"))
        except LoadFailed as error:
            told = "fork" in str(error)
            anew = LlamaCppEmbedder(folder / "bert.gguf", n_threads=1).embed(ask("abc"))
            os._exit(0 if told and len(anew) == 1 else 2)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@needs_minilm
def test_vectors_are_those_of_llama_cpp_python():
    """A real model gives the vectors that llama-cpp-python gives for each text alone."""
    import llama_cpp

    texts = ["hello world", "The kitten purrs on the mat.", "\U0001f994 Igel, 日本語", "x " * 300]
    ours = LlamaCppEmbedder(MINILM, n_threads=1).embed(ask(*texts))
    options = {"n_ctx": 512, "n_batch": 512, "n_ubatch": 512, "n_threads": 1}
    theirs = llama_cpp.Llama(
        str(MINILM), embedding=True, n_threads_batch=1, verbose=False, **options
    )
    try:
        for vector, text in zip(ours, texts, strict=True):
            assert cosine(vector, theirs.embed(text, normalize=True)) > 0.99999
    finally:
        theirs.close()


@needs_minilm
def test_a_real_model_knows_what_is_alike():
    """Texts that mean the same are nearer than texts that do not."""
    client = Client(local=None, embedding=LlamaCppEmbedder(MINILM, n_threads=1))
    cat, kitten, stock = client.embed(
        ["A cat sleeps.", "A kitten is napping.", "Shares fell on Monday."]
    )
    assert cosine(cat, kitten) > cosine(cat, stock) + 0.3


@needs_minilm
@settings(max_examples=25, deadline=None)
@given(text=st.text(min_size=1, max_size=200))
def test_any_text_has_a_vector(text):
    """Control characters, joined emoji, any script: a text that is UTF-8 gets a vector."""
    embedder = LlamaCppEmbedder(MINILM, n_threads=1)
    try:
        request = ask(text, truncate=True)
    except Exception:  # noqa: BLE001 - half a character is refused, which another test holds
        return
    assert math.hypot(*embedder.embed(request)[0]) == pytest.approx(1)
