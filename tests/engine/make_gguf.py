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


def unwanted(text: str) -> bool:
    """Bytes that no JSON string may hold raw, or that make no letter alone; and marks that are not text."""
    printable = text.startswith("<0x") and 32 <= int(text[3:5], 16) < 127
    return text.startswith("<") and len(text) > 1 and not printable and text != "</s>"


# The model likes this letter, so that its answers end by themselves after a few others.
LAST = ("+", "<0x2B>")


def tensors(tokens: list[str]) -> Iterator[tuple[str, np.ndarray]]:
    """The last column of the residual stream is the same for every token, so that it can serve as a bias; the one
    before it tells the token after which an answer ends."""
    random = np.random.default_rng(SEED)

    def matrix(rows: int, columns: int) -> np.ndarray:
        return random.standard_normal((rows, columns)).astype(np.float32) / np.float32(np.sqrt(columns))

    def into_stream(rows: int, columns: int) -> np.ndarray:
        values = matrix(rows, columns)
        values[-2:] = 0
        return values

    ones = np.ones(WIDTH, dtype=np.float32)
    embedding = matrix(len(tokens), WIDTH)
    embedding[:, -1] = 2
    embedding[:, -2] = [2 if text in LAST else -2 for text in tokens]
    # Large enough that the model prefers some tokens strongly instead of all alike.
    output = matrix(len(tokens), WIDTH) * np.float32(4)
    output[:, -1] = [-100 if unwanted(text) else 0 for text in tokens]
    output[:, -2] = [100 if text == "</s>" else 0 for text in tokens]
    yield "token_embd.weight", embedding
    yield "output_norm.weight", ones
    yield "output.weight", output
    for layer in range(LAYERS):
        block = f"blk.{layer}."
        yield block + "attn_norm.weight", ones
        for part in ("attn_q", "attn_k", "attn_v"):
            yield f"{block}{part}.weight", matrix(WIDTH, WIDTH)
        yield block + "attn_output.weight", into_stream(WIDTH, WIDTH)
        yield block + "ffn_norm.weight", ones
        yield block + "ffn_gate.weight", matrix(HIDDEN, WIDTH)
        yield block + "ffn_up.weight", matrix(HIDDEN, WIDTH)
        yield block + "ffn_down.weight", into_stream(WIDTH, HIDDEN)


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
    # One vector for a text, not one for each token.
    writer.add_pooling_type(gguf.PoolingType.MEAN)
    writer.add_chat_template(TEMPLATE)


def main() -> None:
    tokens = list(vocabulary())
    writer = gguf.GGUFWriter(sys.argv[1], "llama")
    describe(writer, tokens)
    for name, values in tensors([text for text, _, _ in tokens]):
        writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    main()
