"""A language model of a few hundred kilobytes, with random weights, to run the engine on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import gguf
import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

WIDTH, WIDE, HEADS, LAYERS = 64, 128, 4, 2
TRAINED = 2048
CONTROL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
# Written in text so often that a tokenizer would learn them; each is spelled from left to right.
LEARNED = (
    '{"', '":', '", "', '"}', '"}}', '": "', '": {"', '": {"name', "name", "arguments",
    "tool", "call", "<tool_call>", "</tool_call>", "user", "assistant", "system", "the", "and",
    "true", "false", "null", "false}", "true, ", "\n\n", "    ", "100", "00", "ing", "tion",
)  # fmt: skip
# What a form needs to come to its end; a random model would write strings without end.
STRUCTURE = ('"', "}", "]", '"}', ".", "0")

TEMPLATE = """\
{%- if tools %}<|im_start|>system
{% if messages[0].role == 'system' %}{{ messages[0].content }}
{% endif %}Call tools by {"name": ..., "arguments": ...} in <tool_call></tool_call>:
{% for tool in tools %}{{ tool | tojson }}
{% endfor %}<|im_end|>
{% endif %}
{%- for message in messages %}
{%- if not (tools and loop.first and message.role == 'system') %}
{%- if message.role == 'tool' %}<|im_start|>user
<tool_response>
{{ message.content }}
</tool_response>
{%- else %}<|im_start|>{{ message.role }}
{{ message.content or '' }}
{%- for call in message.tool_calls or [] %}
<tool_call>
{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}}
</tool_call>
{%- endfor %}
{%- endif %}<|im_end|>
{% endif %}
{%- endfor %}
{%- if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""


def _alphabet() -> dict[int, str]:
    """How GPT-2's tokenizer spells each byte."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    other = [byte for byte in range(256) if byte not in plain]
    return {byte: chr(byte) for byte in plain} | {
        byte: chr(256 + at) for at, byte in enumerate(other)
    }


def spelled(text: str) -> str:
    """Text as the vocabulary of a byte-level tokenizer writes it."""
    letters = _alphabet()
    return "".join(letters[byte] for byte in text.encode())


def _merges() -> list[tuple[str, str]]:
    merges: list[tuple[str, str]] = []
    for text in LEARNED:
        left, *rest = spelled(text)
        for letter in rest:
            if (left, letter) not in merges:
                merges.append((left, letter))
            left += letter
    return merges


def write_chat_model(
    path: Path, *, seed: int = 7, template: str | None = TEMPLATE, spm: bool = False
) -> Path:
    """Write a model that chats in ChatML, shows tools as Hermes does, and says nonsense.

    The same arguments give the same file.

    Args:
        path: where to.
        seed: of the weights.
        template: its chat template, None for a base model.
        spm: whether its vocabulary is of the SentencePiece kind, which begins every prompt with
            a token of its own, and not of the byte-level kind, which has none.
    """
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(TRAINED)
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(WIDE)
    writer.add_block_count(LAYERS)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS // 2)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    if template is not None:
        writer.add_chat_template(template)
    tokens = _add_pieces(writer) if spm else _add_bytes(writer)
    _add_weights(writer, tokens, np.random.default_rng(seed))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _add_bytes(writer: gguf.GGUFWriter) -> list[str]:
    merges = _merges()
    joined = dict.fromkeys(left + right for left, right in merges)
    tokens = [*_alphabet().values(), *joined]
    kinds = [gguf.TokenType.NORMAL] * len(tokens) + [gguf.TokenType.CONTROL] * len(CONTROL)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_merges([f"{left} {right}" for left, right in merges])
    _add_vocabulary(writer, [*tokens, *CONTROL], kinds)
    writer.add_add_bos_token(value=False)
    return [*tokens, *CONTROL]


def _add_pieces(writer: gguf.GGUFWriter) -> list[str]:
    letters = [chr(n) for n in range(33, 127)]
    words = ["\u2581", *(text for text in LEARNED if text.isalpha())]
    tokens = ["<unk>", "<s>", *(f"<0x{n:02X}>" for n in range(256)), *letters, *words]
    kinds = [gguf.TokenType.UNKNOWN, gguf.TokenType.CONTROL]
    kinds += [gguf.TokenType.BYTE] * 256 + [gguf.TokenType.NORMAL] * (len(letters) + len(words))
    kinds += [gguf.TokenType.CONTROL] * len(CONTROL)
    writer.add_tokenizer_model("llama")
    writer.add_token_scores([float(len(each)) for each in (*tokens, *CONTROL)])
    _add_vocabulary(writer, [*tokens, *CONTROL], kinds)
    writer.add_unk_token_id(0)
    writer.add_bos_token_id(1)
    writer.add_add_bos_token(value=True)
    return [*tokens, *CONTROL]


def _add_vocabulary(
    writer: gguf.GGUFWriter, tokens: list[str], kinds: list[gguf.TokenType]
) -> None:
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_eos_token_id(tokens.index("<|im_end|>"))


def _add_weights(writer: gguf.GGUFWriter, tokens: list[str], random: np.random.Generator) -> None:
    def matrix(name: str, rows: int, columns: int) -> None:
        weights = random.normal(0, columns**-0.5, (rows, columns))
        writer.add_tensor(f"{name}.weight", weights.astype(np.float32))

    def norm(name: str) -> None:
        writer.add_tensor(f"{name}.weight", np.ones(WIDTH, np.float32))

    # The first dimension is always on, so that the last layer can like some tokens better.
    embedding = random.normal(0, 1, (len(tokens), WIDTH))
    embedding[:, 0] = 8
    writer.add_tensor("token_embd.weight", embedding.astype(np.float32))
    norm("output_norm")
    output = random.normal(0, 0.3, (len(tokens), WIDTH))
    output[:, 0] = 0
    output[[tokens.index(text) for text in STRUCTURE if text in tokens], 0] = 0.9
    writer.add_tensor("output.weight", output.astype(np.float32))
    half = WIDTH // 2
    sizes = {"attn_q": (WIDTH, WIDTH), "attn_k": (half, WIDTH), "attn_v": (half, WIDTH)}
    sizes |= {"attn_output": (WIDTH, WIDTH), "ffn_gate": (WIDE, WIDTH), "ffn_up": (WIDE, WIDTH)}
    sizes["ffn_down"] = (WIDTH, WIDE)
    for layer in range(LAYERS):
        norm(f"blk.{layer}.attn_norm")
        norm(f"blk.{layer}.ffn_norm")
        for name, (rows, columns) in sizes.items():
            matrix(f"blk.{layer}.{name}", rows, columns)
