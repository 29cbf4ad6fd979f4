"""Muon in float32; PyTorch's own works in bfloat16, which many processors only emulate.

Source: https://github.com/KellerJordan/Muon; the step is that of `torch.optim.Muon`.
"""

from collections.abc import Iterable

import torch
from torch import Tensor

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
_ITERATIONS = 5


class Muon(torch.optim.Optimizer):  # type: ignore[misc, unused-ignore]
    """Moves each matrix along its momentum, with all singular values made equal.

    lr: learning rate; momentum: of the gradient (Nesterov's); weight_decay: fraction of a matrix
    that a step of rate 1 takes away.
    """

    def __init__(
        self, matrices: Iterable[Tensor], lr: float, momentum: float, weight_decay: float
    ) -> None:
        super().__init__(matrices, {"lr": lr, "momentum": momentum, "decay": weight_decay})

    @torch.no_grad()  # type: ignore[untyped-decorator, unused-ignore]
    def step(self) -> None:
        """Take one step."""
        for group in self.param_groups:
            for matrix in group["params"]:
                mean = self.state[matrix].setdefault("mean", torch.zeros_like(matrix))
                mean.lerp_(matrix.grad, 1 - group["momentum"])
                direction = orthogonal(matrix.grad.lerp(mean, group["momentum"]))
                rows, columns = matrix.shape
                matrix.mul_(1 - group["lr"] * group["decay"])
                matrix.add_(direction, alpha=-group["lr"] * max(1.0, rows / columns) ** 0.5)


def orthogonal(matrix: Tensor) -> Tensor:
    """Return U V' of a matrix U S V', nearly, by an iteration of Newton and Schulz."""
    first, second, third = _COEFFICIENTS
    is_tall = matrix.shape[0] > matrix.shape[1]
    result = matrix.T if is_tall else matrix
    result = result / result.norm().clamp(min=1e-7)
    for _ in range(_ITERATIONS):
        square = result @ result.T
        result = first * result + (second * square + third * square @ square) @ result
    return result.T if is_tall else result
