"""The tokenizer: byte-level byte-pair encoding, with tokens that mark the turns of a conversation.

Byte-level means that each of the 256 bytes is a token, so any text can be encoded, and a character
beyond ASCII may span several tokens. The text is first split at each digit, so that a number is
copied digit by digit, and then with GPT-2's pattern; llama.cpp calls this "smollm".
"""

import json
from collections.abc import Iterator
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from rxllm.models.tiny.corpus import Conversation
from rxllm.models.tiny.corpus.tool_dialogues import INSTRUCTIONS

PAD, BEGIN, SYSTEM, USER, ASSISTANT, END, TOOL = range(7)
SPECIAL_TOKENS = (
    "<|pad|>", "<|begin|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>", "<|tool|>"
)  # fmt: skip
_ROLES = {"system": SYSTEM, "user": USER, "assistant": ASSISTANT, "tool": TOOL}

CHAT_TEMPLATE = (
    "{{ '<|begin|>' }}"
    "{% set is_first_system = messages[0]['role'] == 'system' %}"
    "{% if tools %}"
    "{{ '<|system|>' + (messages[0]['content'] + '\\n\\n' if is_first_system else '') }}"
    "{{ '<tools>\\n' }}"
    "{% for tool in tools %}{{ tool | tojson + '\\n' }}{% endfor %}"
    f"{{{{ {json.dumps('</tools>' + chr(10) + INSTRUCTIONS + '<|end|>')} }}}}"
    "{% endif %}"
    "{% for message in messages %}"
    "{% if not (tools and is_first_system and loop.first) %}"
    "{{ '<|' + message['role'] + '|>' + message['content'] }}"
    "{% for call in message['tool_calls'] %}"
    "{{ '' if loop.first and not message['content'] else '\\n' }}"
    "{% set function = call['function'] %}"
    "{% set written = {'name': function['name'], 'arguments': function['arguments']} %}"
    "{{ '<tool_call>\\n' + written | tojson + '\\n</tool_call>' }}"
    "{% endfor %}"
    "{{ '<|end|>' }}"
    "{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


def train_tokenizer(texts: Iterator[str], vocabulary: int) -> Tokenizer:
    """Train a tokenizer of `vocabulary` tokens on `texts`."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
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
