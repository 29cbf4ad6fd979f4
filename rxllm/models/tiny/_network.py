"""The network in PyTorch: a Llama-style decoder, used only for training.

The engines never import this module; they read the exported files. The arithmetic follows
"LLaMA: Open and Efficient Foundation Language Models" (Touvron et al., 2023): RMSNorm before each
block, rotary positions in the half-rotation form of Hugging Face Transformers, SwiGLU, no biases,
and here the output projection tied to the token embedding.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from rxllm.models.tiny.shape import Shape


@dataclass(frozen=True)
class Rotation:
    """Cosines and sines of the rotary angles, each of shape [positions, head_size]."""

    cosine: Tensor
    sine: Tensor

    def apply(self, x: Tensor) -> Tensor:
        """Rotate queries or keys `x` of shape [batch, heads, positions, head_size]."""
        first, second = x.chunk(2, dim=-1)
        return x * self.cosine + torch.cat((-second, first), dim=-1) * self.sine


def rotation(positions: int, shape: Shape) -> Rotation:
    """Return the rotation for positions 0 to `positions` - 1."""
    half = torch.arange(0, shape.head_size, 2, dtype=torch.float32) / shape.head_size
    angles = torch.outer(torch.arange(positions, dtype=torch.float32), shape.rope_theta**-half)
    angles = torch.cat((angles, angles), dim=-1)
    return Rotation(angles.cos(), angles.sin())


class Attention(nn.Module):  # type: ignore[misc, unused-ignore]
    """Causal self-attention with as many key heads as query heads."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.heads = shape.heads
        self.q = nn.Linear(shape.width, shape.width, bias=False)
        self.k = nn.Linear(shape.width, shape.width, bias=False)
        self.v = nn.Linear(shape.width, shape.width, bias=False)
        self.o = nn.Linear(shape.width, shape.width, bias=False)

    def forward(self, x: Tensor, turn: Rotation) -> Tensor:
        """`x` and the result have the shape [batch, positions, width]."""
        q, k, v = (
            layer(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for layer in (self.q, self.k, self.v)
        )
        mixed = functional.scaled_dot_product_attention(
            turn.apply(q), turn.apply(k), v, is_causal=True
        )
        out: Tensor = self.o(mixed.transpose(1, 2).flatten(-2))
        return out


class FeedForward(nn.Module):  # type: ignore[misc, unused-ignore]
    """SwiGLU: the gate controls how much of `up` passes through."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.gate = nn.Linear(shape.width, shape.hidden, bias=False)
        self.up = nn.Linear(shape.width, shape.hidden, bias=False)
        self.down = nn.Linear(shape.hidden, shape.width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """`x` and the result have the shape [batch, positions, width]."""
        out: Tensor = self.down(functional.silu(self.gate(x)) * self.up(x))
        return out


class Layer(nn.Module):  # type: ignore[misc, unused-ignore]
    """Attention, then the feed-forward network, each behind a norm and with a residual."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.attention_norm = nn.RMSNorm(shape.width, eps=shape.epsilon)
        self.attention = Attention(shape)
        self.feed_forward_norm = nn.RMSNorm(shape.width, eps=shape.epsilon)
        self.feed_forward = FeedForward(shape)

    def forward(self, x: Tensor, turn: Rotation) -> Tensor:
        """`x` and the result have the shape [batch, positions, width]."""
        x = x + self.attention(self.attention_norm(x), turn)
        out: Tensor = x + self.feed_forward(self.feed_forward_norm(x))
        return out


class Network(nn.Module):  # type: ignore[misc, unused-ignore]
    """The whole decoder: token ids in, final hidden states or logits out."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.embedding = nn.Embedding(shape.vocabulary, shape.width)
        self.layers = nn.ModuleList(Layer(shape) for _ in range(shape.layers))
        self.norm = nn.RMSNorm(shape.width, eps=shape.epsilon)
        self._initialise()

    def _initialise(self) -> None:
        for name, weight in self.named_parameters():
            if weight.dim() == 2:
                residual = name.endswith(("o.weight", "down.weight"))
                scale = (2 * self.shape.layers) ** -0.5 if residual else 1.0
                nn.init.normal_(weight, std=0.02 if "embedding" in name else 0.06 * scale)

    def hidden(self, tokens: Tensor) -> Tensor:
        """Hidden states [batch, positions, width] for `tokens` [batch, positions]."""
        x: Tensor = self.embedding(tokens)
        turn = rotation(tokens.shape[1], self.shape)
        for layer in self.layers:
            x = layer(x, turn)
        out: Tensor = self.norm(x)
        return out

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits [batch, positions, vocabulary] for `tokens` [batch, positions]."""
        return functional.linear(self.hidden(tokens), self.embedding.weight)
