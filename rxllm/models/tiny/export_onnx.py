"""Export to ONNX: a decoder with KV cache, built node by node from standard operators.

Inputs and outputs have the names used by Hugging Face Optimum, so that other programs can run the
model too. Weights are stored as float16 and cast to float32; onnxruntime folds the casts when it
loads the model. The arithmetic is that of `_network.py`, expressed in ONNX operators.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from rxllm.models.tiny._weights import Weights
from rxllm.models.tiny.shape import Shape
from rxllm.models.tiny.tokenizer import BEGIN, END, PAD

OPSET = 17
IR_VERSION = 8
_MASKED = -1e9


class GraphBuilder:
    """Collects nodes and initializers; every value is identified by its name."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []

    def node(self, operator: str, *inputs: str, name: str = "", **attributes: Any) -> str:
        """Add a node with one output, called `name` if given, and return the output's name."""
        output = name or f"{operator}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [output], **attributes))
        return output

    def split(self, value: str, sizes: list[int]) -> list[str]:
        """Split `value` along its last axis into parts of `sizes`."""
        outputs = [f"Split_{len(self.nodes)}_{part}" for part in range(len(sizes))]
        inputs = [value, self.constant(np.array(sizes, np.int64))]
        self.nodes.append(helper.make_node("Split", inputs, outputs, axis=-1))
        return outputs

    def constant(self, value: NDArray[Any], name: str = "") -> str:
        """Add an initializer and return its name."""
        name = name or f"constant_{len(self.initializers)}"
        self.initializers.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def weight(self, value: NDArray[np.float32], name: str) -> str:
        """Add a weight, stored as float16, and return the name of its float32 form."""
        stored = self.constant(value.astype(np.float16), name)
        return self.node("Cast", stored, to=TensorProto.FLOAT)

    def axes(self, *axes: int) -> str:
        """Add an int64 vector, such as the axes or the shape that is an input of an operator."""
        return self.constant(np.array(axes, np.int64))

    def number(self, value: float) -> str:
        """Add a float32 scalar."""
        return self.constant(np.array(value, np.float32))


def export_onnx(path: Path, weights: Weights, shape: Shape) -> None:
    """Write the decoder to `path`."""
    graph = GraphBuilder()
    embedding = graph.weight(weights["embedding"], "embedding")
    x = graph.node("Gather", embedding, "input_ids", axis=0)
    turn = _rotation(graph, shape)
    allowed = _allowed(graph)
    for layer in range(shape.layers):
        own = {name: weights[f"{layer}.{name}"] for name in _NAMES}
        x = _attention(graph, x, own, layer, turn, allowed, shape)
        x = _feed_forward(graph, x, own, layer, shape)
    x = _norm(graph, x, weights["norm"], "norm", shape)
    transposed = graph.node("Transpose", embedding, perm=[1, 0])
    graph.node("MatMul", x, transposed, name="logits")
    inputs, outputs = _interface(shape)
    proto = helper.make_graph(graph.nodes, "tiny", inputs, outputs, graph.initializers)
    opset = helper.make_opsetid("", OPSET)
    model = helper.make_model(proto, opset_imports=[opset], ir_version=IR_VERSION)
    model.producer_name = "rxllm"
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)


_NAMES = ("attention_norm", "q", "k", "v", "o", "feed_forward_norm", "gate", "up", "down")


def _interface(shape: Shape) -> tuple[list[onnx.ValueInfoProto], list[onnx.ValueInfoProto]]:
    """Inputs, outputs and dynamic axes, with Optimum's names."""
    integer, real, make = TensorProto.INT64, TensorProto.FLOAT, helper.make_tensor_value_info
    total = "past_sequence_length + sequence_length"
    past: list[str | int | None] = [
        "batch_size", shape.heads, "past_sequence_length", shape.head_size
    ]  # fmt: skip
    present: list[str | int | None] = ["batch_size", shape.heads, total, shape.head_size]
    inputs = [
        make("input_ids", integer, ["batch_size", "sequence_length"]),
        make("attention_mask", integer, ["batch_size", total]),
        make("position_ids", integer, ["batch_size", "sequence_length"]),
    ]
    outputs = [make("logits", real, ["batch_size", "sequence_length", shape.vocabulary])]
    for layer in range(shape.layers):
        for part in ("key", "value"):
            inputs.append(make(f"past_key_values.{layer}.{part}", real, past))
            outputs.append(make(f"present.{layer}.{part}", real, present))
    return inputs, outputs


def _rotation(graph: GraphBuilder, shape: Shape) -> tuple[str, str]:
    """Cosines and sines of `position_ids`, each [batch, 1, sequence, head_size]."""
    half = np.arange(0, shape.head_size, 2, dtype=np.float32) / shape.head_size
    rates = graph.constant((shape.rope_theta**-half).astype(np.float32))
    places = graph.node("Cast", "position_ids", to=TensorProto.FLOAT)
    places = graph.node("Unsqueeze", places, graph.axes(1, 3))
    angles = graph.node("Mul", places, rates)
    angles = graph.node("Concat", angles, angles, axis=-1)
    return graph.node("Cos", angles), graph.node("Sin", angles)


def _allowed(graph: GraphBuilder) -> str:
    """The boolean attention mask [batch, 1, sequence, past + sequence].

    A query attends to a key if the key's `attention_mask` isn't 0 and it isn't after the query.
    """
    zero, one = graph.constant(np.array(0, np.int64)), graph.constant(np.array(1, np.int64))
    key_shape = graph.node("Shape", "past_key_values.0.key")
    past = graph.node("Gather", key_shape, graph.constant(np.array(2, np.int64)))
    mask_shape = graph.node("Shape", "attention_mask")
    total = graph.node("Gather", mask_shape, one)
    keys = graph.node("Range", zero, total, one)
    queries = graph.node("Range", past, total, one)
    queries = graph.node("Unsqueeze", queries, graph.axes(1))
    causal = graph.node("LessOrEqual", keys, queries)
    seen = graph.node("Cast", "attention_mask", to=TensorProto.BOOL)
    seen = graph.node("Unsqueeze", seen, graph.axes(1, 2))
    return graph.node("And", seen, causal)


def _norm(graph: GraphBuilder, x: str, weight: NDArray[np.float32], name: str, shape: Shape) -> str:
    """RMSNorm, as a pattern of operators that onnxruntime fuses into one."""
    square = graph.node("Pow", x, graph.number(2.0))
    mean = graph.node("ReduceMean", square, axes=[-1], keepdims=1)
    root = graph.node("Sqrt", graph.node("Add", mean, graph.number(shape.epsilon)))
    return graph.node("Mul", graph.node("Div", x, root), graph.constant(weight, name))


def _turned(graph: GraphBuilder, x: str, turn: tuple[str, str], shape: Shape) -> str:
    """Rotate queries or keys [batch, heads, sequence, head_size] by their positions."""
    half = shape.head_size // 2
    first, second = graph.split(x, [half, half])
    crossed = graph.node("Concat", graph.node("Neg", second), first, axis=-1)
    return graph.node("Add", graph.node("Mul", x, turn[0]), graph.node("Mul", crossed, turn[1]))


def _attention(
    graph: GraphBuilder,
    x: str,
    own: Weights,
    layer: int,
    turn: tuple[str, str],
    allowed: str,
    shape: Shape,
) -> str:
    """`x` plus the attention block; extends this layer's cache."""
    normed = _norm(graph, x, own["attention_norm"], f"{layer}.attention_norm", shape)
    joined = np.concatenate((own["q"], own["k"], own["v"])).T
    projected = graph.node("MatMul", normed, graph.weight(joined, f"{layer}.qkv"))
    heads = []
    for part in graph.split(projected, [shape.width] * 3):
        cut = graph.node("Reshape", part, graph.axes(0, 0, shape.heads, shape.head_size))
        heads.append(graph.node("Transpose", cut, perm=[0, 2, 1, 3]))
    query = _turned(graph, heads[0], turn, shape)
    key = _turned(graph, heads[1], turn, shape)
    past, present = f"past_key_values.{layer}", f"present.{layer}"
    key = graph.node("Concat", f"{past}.key", key, name=f"{present}.key", axis=2)
    value = graph.node("Concat", f"{past}.value", heads[2], name=f"{present}.value", axis=2)
    query = graph.node("Mul", query, graph.number(shape.head_size**-0.5))
    scores = graph.node("MatMul", query, graph.node("Transpose", key, perm=[0, 1, 3, 2]))
    scores = graph.node("Where", allowed, scores, graph.number(_MASKED))
    mixed = graph.node("MatMul", graph.node("Softmax", scores, axis=-1), value)
    mixed = graph.node("Transpose", mixed, perm=[0, 2, 1, 3])
    mixed = graph.node("Reshape", mixed, graph.axes(0, 0, shape.width))
    out = graph.node("MatMul", mixed, graph.weight(own["o"].T, f"{layer}.o"))
    return graph.node("Add", x, out)


def _feed_forward(graph: GraphBuilder, x: str, own: Weights, layer: int, shape: Shape) -> str:
    """`x` plus the SwiGLU block."""
    normed = _norm(graph, x, own["feed_forward_norm"], f"{layer}.feed_forward_norm", shape)
    joined = np.concatenate((own["gate"], own["up"])).T
    projected = graph.node("MatMul", normed, graph.weight(joined, f"{layer}.gate_up"))
    gate, up = graph.split(projected, [shape.hidden] * 2)
    gated = graph.node("Mul", gate, graph.node("Sigmoid", gate))
    inner = graph.node("Mul", gated, up)
    return graph.node(
        "Add", x, graph.node("MatMul", inner, graph.weight(own["down"].T, f"{layer}.down"))
    )


def write_configuration(directory: Path, shape: Shape) -> None:
    """Write `config.json` in the layout of Hugging Face Transformers."""
    configuration = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": shape.width,
        "intermediate_size": shape.hidden,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.heads,
        "head_dim": shape.head_size,
        "hidden_act": "silu",
        "max_position_embeddings": shape.context,
        "vocab_size": shape.vocabulary,
        "rms_norm_eps": shape.epsilon,
        "rope_theta": shape.rope_theta,
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": True,
        "bos_token_id": BEGIN,
        "eos_token_id": END,
        "pad_token_id": PAD,
        "torch_dtype": "float16",
    }
    text = json.dumps(configuration, indent=2)
    (directory / "config.json").write_text(text + "\n", encoding="utf-8")
