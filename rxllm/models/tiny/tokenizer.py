"""The tokenizer: byte-level pair encoding, with tokens that mark the turns of a conversation.

Byte-level means that each of the 256 bytes is a token of its own, so any text at all can be
written, and a character beyond ASCII may be spread over several tokens. The text is first cut by
the pattern of GPT-2, which llama.cpp knows by the name "gpt-2".
"""

import json
from collections.abc import Iterator
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from rxllm.models.tiny.corpus import Conversation

PAD, BEGIN, SYSTEM, USER, ASSISTANT, END = range(6)
SPECIAL_TOKENS = ("<|pad|>", "<|begin|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>")
_ROLES = {"system": SYSTEM, "user": USER, "assistant": ASSISTANT}

CHAT_TEMPLATE = (
    "{{ '<|begin|>' }}"
    "{% for message in messages %}"
    "{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


def train_tokenizer(texts: Iterator[str], vocabulary: int) -> Tokenizer:
    """A tokenizer of `vocabulary` tokens, with merges learned from `texts`."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def encode(tokenizer: Tokenizer, conversation: Conversation) -> tuple[list[int], list[bool]]:
    """The token ids of a conversation, and for each whether the model is to say it.

    Said by the model are the assistant's words and the `<|end|>` behind them. The ids are those
    that `CHAT_TEMPLATE` gives.
    """
    tokens, said = [BEGIN], [False]
    for message in conversation:
        content = tokenizer.encode(message.content, add_special_tokens=False).ids
        tokens += [_ROLES[message.role], *content, END]
        said += [False] + [message.role == "assistant"] * (len(content) + 1)
    return tokens, said


def write_configuration(directory: Path, context: int) -> None:
    """Write `tokenizer_config.json` in the layout of Hugging Face Transformers."""
    configuration = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": context,
        "bos_token": SPECIAL_TOKENS[BEGIN],
        "eos_token": SPECIAL_TOKENS[END],
        "pad_token": SPECIAL_TOKENS[PAD],
        "add_bos_token": False,
        "add_eos_token": False,
        "clean_up_tokenization_spaces": False,
        "chat_template": CHAT_TEMPLATE,
    }
    text = json.dumps(configuration, indent=2)
    (directory / "tokenizer_config.json").write_text(text + "\n", encoding="utf-8")
