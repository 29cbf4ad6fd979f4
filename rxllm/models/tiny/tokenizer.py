"""The tokenizer: byte-level byte-pair encoding, with tokens that mark the turns of a conversation.

Byte-level means that each of the 256 bytes is a token, so any text can be encoded, and a character
beyond ASCII may span several tokens. The text is first split with GPT-2's pattern, which llama.cpp
calls "gpt-2".
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
    """Train a tokenizer of `vocabulary` tokens on `texts`."""
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
    """Return the token ids of a conversation, and for each id whether it is the model's output.

    The model's output is the assistant's messages, each with the `<|end|>` after it. The ids are
    the same as those of the text rendered with `CHAT_TEMPLATE`.
    """
    tokens, is_output = [BEGIN], [False]
    for message in conversation:
        content = tokenizer.encode(message.content, add_special_tokens=False).ids
        tokens += [_ROLES[message.role], *content, END]
        is_output += [False] + [message.role == "assistant"] * (len(content) + 1)
    return tokens, is_output


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
