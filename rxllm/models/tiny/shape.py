"""The model's sizes, shared by training, the exports and the model card."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Shape:
    """Sizes of the decoder, with the names in Hugging Face's `LlamaConfig` in backquotes.

    vocabulary: number of tokens; context: maximum sequence length in tokens; width: `hidden_size`;
    hidden: `intermediate_size`; layers, heads: their numbers; rope_theta: base of the rotary
    angles; epsilon: added to the mean square in RMSNorm.
    """

    vocabulary: int = 2048
    context: int = 1024
    width: int = 192
    hidden: int = 512
    layers: int = 4
    heads: int = 6
    rope_theta: float = 10_000.0
    epsilon: float = 1e-5

    @property
    def head_size(self) -> int:
        """Size of one head's query, key or value."""
        return self.width // self.heads

    @property
    def parameters(self) -> int:
        """Number of parameters, with the tied embedding counted once."""
        layer = 4 * self.width**2 + 3 * self.width * self.hidden + 2 * self.width
        return self.vocabulary * self.width + self.layers * layer + self.width
