"""Export to GGUF, the file format of llama.cpp.

Keys and tensor names follow the specification in the ggml repository (docs/gguf.md) for the
architecture "llama". Matrices are stored as float16, norms as float32.
"""

import json
from pathlib import Path

import gguf
import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from rxllm.models.tiny._weights import Weights
from rxllm.models.tiny.shape import Shape
from rxllm.models.tiny.tokenizer import BEGIN, CHAT_TEMPLATE, END, PAD, SPECIAL_TOKENS

_LAYER_TENSORS = {
    "attention_norm": "attn_norm",
    "q": "attn_q",
    "k": "attn_k",
    "v": "attn_v",
    "o": "attn_output",
    "feed_forward_norm": "ffn_norm",
    "gate": "ffn_gate",
    "up": "ffn_up",
    "down": "ffn_down",
}


def export_gguf(path: Path, weights: Weights, tokenizer: Tokenizer, shape: Shape) -> None:
    """Write `weights` and everything needed to run them to `path`."""
    writer = gguf.GGUFWriter(path, "llama")
    _write_shape(writer, shape)
    _write_tokenizer(writer, tokenizer)
    writer.add_tensor("token_embd.weight", weights["embedding"].astype(np.float16))
    writer.add_tensor("output_norm.weight", weights["norm"])
    for layer in range(shape.layers):
        for ours, theirs in _LAYER_TENSORS.items():
            weight = weights[f"{layer}.{ours}"]
            if ours in ("q", "k"):
                weight = interleave(weight, shape.heads)
            half = weight.astype(np.float16) if weight.ndim == 2 else weight
            writer.add_tensor(f"blk.{layer}.{theirs}.weight", half)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def interleave(weight: NDArray[np.float32], heads: int) -> NDArray[np.float32]:
    """Reorder the rows of a query or key matrix [outputs, inputs] for llama.cpp.

    The network rotates row i of a head together with row i + half; llama.cpp's "llama" architecture
    rotates adjacent rows.
    """
    outputs, inputs = weight.shape
    halves = weight.reshape(heads, 2, outputs // heads // 2, inputs)
    return halves.swapaxes(1, 2).reshape(outputs, inputs)


def _write_shape(writer: gguf.GGUFWriter, shape: Shape) -> None:
    writer.add_name("tiny")
    writer.add_description("The bundled model of rxllm, trained on a seeded grammar")
    writer.add_license("MIT")
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    writer.add_vocab_size(shape.vocabulary)
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.width)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.hidden)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.heads)
    writer.add_layer_norm_rms_eps(shape.epsilon)
    writer.add_rope_dimension_count(shape.head_size)
    writer.add_rope_freq_base(shape.rope_theta)


def _write_tokenizer(writer: gguf.GGUFWriter, tokenizer: Tokenizer) -> None:
    vocabulary = tokenizer.get_vocab()
    tokens = sorted(vocabulary, key=vocabulary.__getitem__)
    merges = json.loads(tokenizer.to_str())["model"]["merges"]
    kinds = [
        gguf.TokenType.CONTROL if token in SPECIAL_TOKENS else gguf.TokenType.NORMAL
        for token in tokens
    ]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_merges([m if isinstance(m, str) else " ".join(m) for m in merges])
    writer.add_bos_token_id(BEGIN)
    writer.add_eos_token_id(END)
    writer.add_eot_token_id(END)
    writer.add_pad_token_id(PAD)
    writer.add_add_bos_token(False)
    writer.add_add_eos_token(False)
    writer.add_chat_template(CHAT_TEMPLATE)
