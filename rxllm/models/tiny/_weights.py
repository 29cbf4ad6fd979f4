"""The trained weights as numpy arrays, with the names that both exports use."""

import numpy as np
from numpy.typing import NDArray

from rxllm.models.tiny._network import Network

Weights = dict[str, NDArray[np.float32]]


def weights_of(network: Network) -> Weights:
    """Return all weights as float32 on the CPU.

    Matrices have the shape [outputs, inputs]. Names: `embedding`, `norm`, and for each layer N
    `N.attention_norm`, `N.q`, `N.k`, `N.v`, `N.o`, `N.feed_forward_norm`, `N.gate`, `N.up`,
    `N.down`.
    """
    named: Weights = {}
    for name, weight in network.state_dict().items():
        short = name.removesuffix(".weight").removeprefix("layers.")
        for block in (".attention.", ".feed_forward."):
            short = short.replace(block, ".")
        named[short] = weight.detach().float().numpy()
    return named
