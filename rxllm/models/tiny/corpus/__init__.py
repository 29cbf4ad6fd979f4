"""The seeded grammar: endless conversations for training, and prompts held out of it.

All training text comes from this package: word lists (`nouns`, `names`, `wishes`), sentences
(`plots`, `plots_of_things`), and the modules that combine them (`stories`, `records`,
`small_talk`, `answers`, `dialogues`).
"""

from rxllm.models.tiny.corpus.dialogues import Conversation, Message, conversations
from rxllm.models.tiny.corpus.held_out import held_out_words, training_words
from rxllm.models.tiny.corpus.prompts import Prompt, json_prompts, story_prompts

__all__ = [
    "Conversation",
    "Message",
    "Prompt",
    "conversations",
    "held_out_words",
    "json_prompts",
    "story_prompts",
    "training_words",
]
