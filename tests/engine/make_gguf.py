"""Writes a tiny llama with random weights as a GGUF file: nonsense text, but real tokens, usage and grammars.

python make_gguf.py OUT.gguf      (needs gguf and numpy)
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

import gguf
import numpy as np

SEED = 20
WIDTH, HIDDEN, HEADS, LAYERS, CONTEXT = 64, 160, 4, 2, 4096
COMMON = "the of and to in is it you that was for on are with as at be this have from or one by but not all".split()

# SentencePiece marks the beginning of a word with this letter.
SPACE = "\u2581"
TEMPLATE = "{% for message in messages %}<{{ message.role }}> {{ message.content }}\n{% endfor %}<assistant> "


def vocabulary() -> Iterator[tuple[str, gguf.TokenType, float]]:
    """Control tokens, every byte, and printable characters and words that are preferred to bytes."""
    yield "<unk>", gguf.TokenType.UNKNOWN, 0.0
    yield "<s>", gguf.TokenType.CONTROL, 0.0
    yield "</s>", gguf.TokenType.CONTROL, 0.0
    for byte in range(256):
        yield f"<0x{byte:02X}>", gguf.TokenType.BYTE, -1000.0
    yield SPACE, gguf.TokenType.NORMAL, -10.0
    for code in range(33, 127):
        yield chr(code), gguf.TokenType.NORMAL, -10.0
    for word in COMMON:
        yield SPACE + word, gguf.TokenType.NORMAL, -1.0


def tensors(size: int) -> Iterator[tuple[str, np.ndarray]]:
    random = np.random.default_rng(SEED)

    def matrix(rows: int, columns: int) -> np.ndarray:
        return random.standard_normal((rows, columns)).astype(np.float32) / np.float32(np.sqrt(columns))

    ones = np.ones(WIDTH, dtype=np.float32)
    yield "token_embd.weight", matrix(size, WIDTH)
    yield "output_norm.weight", ones
    # Large enough that the model prefers some tokens strongly instead of all alike.
    yield "output.weight", matrix(size, WIDTH) * np.float32(4)
    for layer in range(LAYERS):
        block = f"blk.{layer}."
        yield block + "attn_norm.weight", ones
        for part in ("attn_q", "attn_k", "attn_v", "attn_output"):
            yield f"{block}{part}.weight", matrix(WIDTH, WIDTH)
        yield block + "ffn_norm.weight", ones
        yield block + "ffn_gate.weight", matrix(HIDDEN, WIDTH)
        yield block + "ffn_up.weight", matrix(HIDDEN, WIDTH)
        yield block + "ffn_down.weight", matrix(WIDTH, HIDDEN)


def describe(writer: gguf.GGUFWriter, tokens: list[tuple[str, gguf.TokenType, float]]) -> None:
    writer.add_name("tiny random llama")
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(HIDDEN)
    writer.add_block_count(LAYERS)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(len(tokens))
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    writer.add_tokenizer_model("llama")
    writer.add_token_list([text for text, _, _ in tokens])
    writer.add_token_types([kind.value for _, kind, _ in tokens])
    writer.add_token_scores([score for _, _, score in tokens])
    writer.add_unk_token_id(0)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_add_bos_token(True)
    writer.add_chat_template(TEMPLATE)


def main() -> None:
    tokens = list(vocabulary())
    writer = gguf.GGUFWriter(sys.argv[1], "llama")
    describe(writer, tokens)
    for name, values in tensors(len(tokens)):
        writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    main()
