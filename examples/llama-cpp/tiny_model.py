#!/usr/bin/env python3
"""Writes a tiny random model of the llama architecture: fast, always the same, and it makes no sense.

    tiny_model.py FILE

Real llama.cpp runs it like any other, at thousands of tokens a second, so that a test finds its
scheduler, KV cache and sampler at work and not its arithmetic. Two layers of width 64; a vocabulary of
bytes, the least a tokenizer of llama.cpp works with, so that any text can be a prompt.
"""

import sys

import gguf
import numpy as np

WIDTH, LAYERS, HEADS, KV_HEADS, HIDDEN, CONTEXT = 64, 2, 4, 2, 192, 4096
SEED = 1
SPREAD = 0.05
# With weights like all others the end of text is hardly ever drawn; so one answer in ten ends by it.
END, END_SPREAD = 2, 10 * SPREAD


def vocabulary():
    """(text, type) of every token; the first three are unknown, begin and end of text."""
    kind = gguf.TokenType
    yield from [("<unk>", kind.UNKNOWN), ("<s>", kind.CONTROL), ("</s>", kind.CONTROL)]
    yield from ((f"<0x{byte:02X}>", kind.BYTE) for byte in range(256))
    # What this tokenizer turns a space into.
    yield "\u2581", kind.NORMAL


def write_vocabulary(writer):
    tokens, types = zip(*vocabulary())
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_scores([0.0] * len(tokens))
    writer.add_unk_token_id(0)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(END)
    writer.add_add_bos_token(True)
    writer.add_add_space_prefix(False)
    writer.add_vocab_size(len(tokens))
    return len(tokens)


def write_shape(writer):
    writer.add_name("tiny-random")
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(HIDDEN)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_rope_freq_base(10000.0)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)


def write_weights(writer, tokens):
    random = np.random.Generator(np.random.PCG64(SEED))

    def matrix(name, *shape):
        values = random.standard_normal(shape, dtype=np.float32) * np.float32(SPREAD)
        if name == "token_embd":
            values[END] *= np.float32(END_SPREAD / SPREAD)
        writer.add_tensor(f"{name}.weight", values.astype(np.float16))

    def norm(name):
        writer.add_tensor(f"{name}.weight", np.ones(WIDTH, np.float32))

    kv_width = WIDTH // HEADS * KV_HEADS
    matrix("token_embd", tokens, WIDTH)  # the output reads it too
    norm("output_norm")
    for layer in range(LAYERS):
        block = f"blk.{layer}."
        norm(block + "attn_norm")
        matrix(block + "attn_q", WIDTH, WIDTH)
        matrix(block + "attn_k", kv_width, WIDTH)
        matrix(block + "attn_v", kv_width, WIDTH)
        matrix(block + "attn_output", WIDTH, WIDTH)
        norm(block + "ffn_norm")
        matrix(block + "ffn_gate", HIDDEN, WIDTH)
        matrix(block + "ffn_up", HIDDEN, WIDTH)
        matrix(block + "ffn_down", WIDTH, HIDDEN)


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    writer = gguf.GGUFWriter(sys.argv[1], "llama")
    write_shape(writer)
    write_weights(writer, write_vocabulary(writer))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    main()
