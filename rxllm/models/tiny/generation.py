"""A small generator over the ONNX file, for measuring the model.

It needs only numpy, onnxruntime and tokenizers. The engines of rxllm do much more; this one is
kept apart from them so that the model can be measured by itself.
"""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from tokenizers import Tokenizer

from rxllm.models.tiny.corpus import Conversation, Message
from rxllm.models.tiny.tokenizer import ASSISTANT, END, encode


class Answer(NamedTuple):
    """Generated text, its token ids, and whether the model ended it by itself."""

    text: str
    tokens: list[int]
    ended: bool


class Generator:
    """The model in `directory`, answering one conversation at a time."""

    def __init__(self, directory: Path) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
        self.session = onnxruntime.InferenceSession(
            str(directory / "model.onnx"), options, providers=["CPUExecutionProvider"]
        )
        self._caches = [i for i in self.session.get_inputs() if i.name.startswith("past_key")]

    def prompt(self, conversation: Conversation) -> list[int]:
        """The token ids of `conversation`, up to where the assistant begins to speak."""
        return [*encode(self.tokenizer, conversation)[0], ASSISTANT]

    def answer(
        self, request: str, temperature: float = 0.0, seed: int = 0, limit: int = 300
    ) -> Answer:
        """The answer to a single message, of at most `limit` tokens; temperature 0 is greedy."""
        conversation = [Message("user", request)]
        tokens = self.generate(self.prompt(conversation), temperature, seed, limit)
        ended = tokens[-1] == END
        tokens = tokens[:-1] if ended else tokens
        return Answer(self.tokenizer.decode(tokens), tokens, ended)

    def generate(
        self, prompt: list[int], temperature: float = 0.0, seed: int = 0, limit: int = 300
    ) -> list[int]:
        """Up to `limit` token ids after `prompt`, the `END` included if the model says it."""
        random, said = np.random.default_rng(seed), list[int]()
        fed, past = prompt, self._empty()
        while len(said) < limit and END not in said[-1:]:
            logits, past = self._step(fed, len(prompt) + len(said), past)
            fed = [_choose(logits, temperature, random)]
            said += fed
        return said

    def _empty(self) -> dict[str, NDArray[np.float32]]:
        shapes = {cache.name: cache.shape for cache in self._caches}
        return {
            name: np.zeros((1, shape[1], 0, shape[3]), np.float32) for name, shape in shapes.items()
        }

    def _step(
        self, fed: list[int], total: int, past: dict[str, NDArray[np.float32]]
    ) -> tuple[NDArray[np.float32], dict[str, NDArray[np.float32]]]:
        """Logits of the last place [vocabulary] and the new cache, after feeding `fed`."""
        inputs: dict[str, Any] = {
            "input_ids": np.array([fed], np.int64),
            "attention_mask": np.ones((1, total), np.int64),
            "position_ids": np.arange(total - len(fed), total, dtype=np.int64)[None],
        }
        logits, *present = self.session.run(None, inputs | past)
        return logits[0, -1], {
            cache.name: value for cache, value in zip(self._caches, present, strict=True)
        }


def _choose(logits: NDArray[np.float32], temperature: float, random: np.random.Generator) -> int:
    if temperature == 0.0:
        return int(logits.argmax())
    scaled = np.exp((logits - logits.max()).astype(np.float64) / temperature)
    return int(random.choice(len(scaled), p=scaled / scaled.sum()))
