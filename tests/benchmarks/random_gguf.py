"""A GGUF file with random weights and the bundled model's tokenizer, to measure speed only."""

from __future__ import annotations

import json
from pathlib import Path

import gguf
import numpy as np

from rxllm.models import tiny

WIDTH, HIDDEN, LAYERS, HEADS = 768, 2048, 12, 12
"""88 million parameters, with a vocabulary of 2,048 tokens."""


def write_random_gguf(path: Path) -> None:
    """Write a Llama with 88 million parameters in f16."""
    tokenizer = json.loads((tiny.directory / "tokenizer.json").read_text(encoding="utf-8"))
    vocabulary = sorted(tokenizer["model"]["vocab"].items(), key=lambda item: item[1])
    special = {token["content"] for token in tokenizer["added_tokens"]}
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(4096)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(HIDDEN)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list([token for token, _ in vocabulary])
    writer.add_token_types(
        [
            gguf.TokenType.CONTROL if token in special else gguf.TokenType.NORMAL
            for token, _ in vocabulary
        ]
    )
    writer.add_token_merges([" ".join(merge) for merge in tokenizer["model"]["merges"]])
    writer.add_add_bos_token(False)
    _add_weights(writer, len(vocabulary))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _add_weights(writer: gguf.GGUFWriter, vocabulary_size: int) -> None:
    random = np.random.default_rng(0)

    def matrix(name: str, rows: int, columns: int) -> None:
        weights = random.standard_normal((rows, columns), dtype=np.float32) * 0.04
        writer.add_tensor(f"{name}.weight", weights.astype(np.float16))

    def ones(name: str) -> None:
        writer.add_tensor(f"{name}.weight", np.ones(WIDTH, np.float32))

    matrix("token_embd", vocabulary_size, WIDTH)
    matrix("output", vocabulary_size, WIDTH)
    ones("output_norm")
    for layer in range(LAYERS):
        for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
            matrix(f"blk.{layer}.{name}", WIDTH, WIDTH)
        matrix(f"blk.{layer}.ffn_gate", HIDDEN, WIDTH)
        matrix(f"blk.{layer}.ffn_up", HIDDEN, WIDTH)
        matrix(f"blk.{layer}.ffn_down", WIDTH, HIDDEN)
        ones(f"blk.{layer}.attn_norm")
        ones(f"blk.{layer}.ffn_norm")
