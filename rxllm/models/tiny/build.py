"""Build the bundled model: `python -m rxllm.models.tiny.build`, with the extra `build` installed.

Trains the tokenizer and the network on the seeded grammar, then writes `tiny.gguf`, `model.onnx`,
`tokenizer.json`, `tokenizer_config.json` and `config.json`. The defaults reproduce the shipped
model, except for rounding differences between processors.
"""

import argparse
import tempfile
from itertools import islice
from pathlib import Path

import torch
from tokenizers import Tokenizer

from rxllm.models.tiny import _trainer, directory, export_gguf, export_onnx, tokenizer
from rxllm.models.tiny._weights import weights_of
from rxllm.models.tiny.corpus import conversations
from rxllm.models.tiny.shape import Shape

TOKENIZER_CONVERSATIONS = 12_000
"""Number of conversations from which the merges of the tokenizer are learned."""


def make_tokenizer(seed: int, vocabulary: int) -> Tokenizer:
    """Train the tokenizer on conversations with made-up subjects.

    So the nouns of the word lists get no tokens of their own, and the model learns to copy a
    subject piece by piece, whether it is in the lists or not.
    """
    documents = islice(conversations(seed, invented=1.0), TOKENIZER_CONVERSATIONS)
    texts = (message.content for document in documents for message in document)
    return tokenizer.train_tokenizer(texts, vocabulary)


def main() -> None:
    """Train and export, with options from the command line."""
    plan, shape = _trainer.Plan(), Shape()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=directory, help="the output directory")
    parser.add_argument(
        "--steps",
        type=int,
        default=plan.steps,
        help="optimizer steps; the learning rates are tuned for the default",
    )
    parser.add_argument(
        "--seed", type=int, default=plan.seed, help="seed of the corpus and the weights"
    )
    parser.add_argument("--threads", type=int, default=2, help="processor threads")
    parser.add_argument(
        "--checkpoint",
        type=Path,
        default=Path(tempfile.gettempdir()) / "rxllm-tiny.pt",
        help="written during training; an existing checkpoint is resumed",
    )
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    plan = _trainer.Plan(steps=options.steps, seed=options.seed)
    words = make_tokenizer(plan.seed, shape.vocabulary)
    network = _trainer.train(words, shape, plan, options.checkpoint)
    options.output.mkdir(parents=True, exist_ok=True)
    words.save(str(options.output / "tokenizer.json"))
    tokenizer.write_configuration(options.output, shape.context)
    export_onnx.write_configuration(options.output, shape)
    weights = weights_of(network)
    export_gguf.export_gguf(options.output / "tiny.gguf", weights, words, shape)
    export_onnx.export_onnx(options.output / "model.onnx", weights, shape)
    print(f"{shape.parameters:,} parameters written to {options.output}")


if __name__ == "__main__":
    main()
