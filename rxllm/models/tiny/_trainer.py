"""Training: batches of conversations, the optimizers, and checkpoints."""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice, pairwise
from pathlib import Path

import torch
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional

from rxllm.models.tiny._muon import Muon
from rxllm.models.tiny._network import Network
from rxllm.models.tiny.corpus import conversations
from rxllm.models.tiny.shape import Shape
from rxllm.models.tiny.tokenizer import PAD, encode

LENGTHS = (64, 256, 384, 640, 1024)


@dataclass(frozen=True)
class Plan:
    """The hyperparameters of training.

    steps: optimizer steps; restarts: the steps at which the learning rates jump back to half of
    their peaks and decay again; tokens: positions in a batch, including padding; rate: peak
    learning rate of the matrices (Muon); embedding_rate: that of all other weights (AdamW);
    warm_up: steps in which the rates rise from zero; cool_down: fraction of the steps before the
    first restart in which they decay to zero; other_turns: loss weight of tokens outside of the
    assistant's turns; seed: seed of the corpus and the initial weights.
    """

    steps: int = 2_400
    restarts: tuple[int, ...] = (1_500, 2_000)
    tokens: int = 8_192
    rate: float = 0.02
    embedding_rate: float = 4e-3
    warm_up: int = 60
    cool_down: float = 0.6
    other_turns: float = 0.1
    seed: int = 2026


@dataclass(frozen=True)
class Batch:
    """Token ids [rows, length + 1] and the weight of each prediction [rows, length]."""

    tokens: Tensor
    weights: Tensor


def batches(tokenizer: Tokenizer, plan: Plan) -> Iterator[Batch]:
    """Yield endless batches; a row is one conversation, truncated to the context length.

    Conversations wait in the bin of the shortest length that fits them until the bin fills a batch,
    so there is little padding and every conversation begins at position 0, as in use.
    """
    bins: dict[int, list[tuple[list[int], list[bool]]]] = {length: [] for length in LENGTHS}
    for conversation in conversations(plan.seed):
        row = encode(tokenizer, conversation)
        length = next((n for n in LENGTHS if len(row[0]) <= n + 1), LENGTHS[-1])
        bins[length].append(row)
        if len(bins[length]) * length >= plan.tokens:
            yield _batch(bins[length], length, plan.other_turns)
            bins[length] = []


def _batch(rows: list[tuple[list[int], list[bool]]], length: int, other: float) -> Batch:
    tokens = torch.full((len(rows), length + 1), PAD, dtype=torch.long)
    weights = torch.zeros(len(rows), length)
    for index, (ids, is_output) in enumerate(rows):
        count = min(len(ids), length + 1)
        tokens[index, :count] = torch.tensor(ids[:count])
        weights[index, : count - 1] = torch.tensor(is_output[1:count]).float().clamp(min=other)
    return Batch(tokens, weights)


def loss_of(network: Network, tokens: Tensor, weights: Tensor) -> Tensor:
    """Return the weighted mean of the cross entropy, in nats per token."""
    logits = network(tokens[:, :-1]).float()
    losses = functional.cross_entropy(
        logits.flatten(0, 1), tokens[:, 1:].flatten(), reduction="none"
    )
    total: Tensor = (losses * weights.flatten()).sum() / weights.sum()
    return total


def optimizers(network: Network, plan: Plan) -> list[torch.optim.Optimizer]:
    """Return Muon for the matrices in the layers and AdamW for the embedding and the norms."""
    matrices = [weight for weight in network.layers.parameters() if weight.dim() == 2]
    chosen = {id(weight) for weight in matrices}
    others = [weight for weight in network.parameters() if id(weight) not in chosen]
    return [
        Muon(matrices, lr=plan.rate, momentum=0.95, weight_decay=0.05),
        torch.optim.AdamW(others, lr=plan.embedding_rate, betas=(0.9, 0.98), weight_decay=0.0),
    ]


def rate_factor(step: int, plan: Plan) -> float:
    """Return the factor of the learning rates: warm-up, plateau, then cosine decays."""
    if step < plan.warm_up:
        return step / plan.warm_up
    borders = [0, *plan.restarts, plan.steps]
    begin, end = next(pair for pair in pairwise(borders) if step < pair[1] or pair[1] == plan.steps)
    peak, left = 0.5, (end - step) / (end - begin)
    if not begin:
        peak, left = 1.0, min(1.0, left / plan.cool_down)
    return peak * (0.5 - 0.5 * math.cos(math.pi * left))


def _print(line: str) -> None:
    print(line, flush=True)


def train(
    tokenizer: Tokenizer,
    shape: Shape,
    plan: Plan,
    checkpoint: Path,
    report: Callable[[str], None] = _print,
) -> Network:
    """Train a network on the CPU. Resumes from `checkpoint` if it exists, and updates it regularly.

    With two threads, this makes the shipped model in the time given on the model card. The
    arithmetic in the layers is bfloat16 if the processor supports it; weights and optimizers stay
    float32.
    """
    torch.manual_seed(plan.seed)
    network = Network(shape)
    learners = optimizers(network, plan)
    schedules = [
        torch.optim.lr_scheduler.LambdaLR(learner, lambda step: rate_factor(step, plan))
        for learner in learners
    ]
    parts = [network, *learners, *schedules]
    first = _resume(checkpoint, parts)
    compute = torch.compile(loss_of, dynamic=False)
    # Emulated, it takes twenty times as long as float32.
    capabilities = torch.cpu.get_capabilities()
    has_bfloat16 = capabilities.get("avx512_bf16") or capabilities.get("amx_bf16") or False
    started, seen = time.monotonic(), 0
    stream = islice(batches(tokenizer, plan), first, plan.steps)
    for step, batch in enumerate(stream, start=first + 1):
        with torch.autocast("cpu", torch.bfloat16, enabled=has_bfloat16):
            loss = compute(network, batch.tokens, batch.weights)
        loss.backward()
        for part in (*learners, *schedules):
            part.step()
        network.zero_grad()
        seen += int((batch.weights > 0).sum())
        if step % 10 == 0:
            pace = seen / (time.monotonic() - started)
            report(f"step {step} loss {loss.item():.4f} tokens {seen} tokens/s {pace:.0f}")
        if step % 100 == 0 or step == plan.steps:
            torch.save([step, *(part.state_dict() for part in parts)], checkpoint)
    return network


def _resume(checkpoint: Path, parts: list[Network | torch.optim.Optimizer]) -> int:
    """Load `checkpoint` into `parts` if it exists, and return the number of completed steps."""
    if not checkpoint.exists():
        return 0
    step, *states = torch.load(checkpoint, weights_only=False)
    for part, state in zip(parts, states, strict=True):
        part.load_state_dict(state)
    return int(step)
