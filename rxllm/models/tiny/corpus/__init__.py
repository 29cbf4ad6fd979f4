"""The seeded grammar: endless conversations for training, and prompts held out of it.

All training text comes from this package: word lists (`nouns`, `names`, `wishes`), sentences
(`plots`, `plots_of_things`), tools (`tools`), and the modules that combine them (`stories`,
`records`, `small_talk`, `answers`, `tool_questions`, `tool_dialogues`, `dialogues`).
"""

from rxllm.models.tiny.corpus.dialogues import conversations
from rxllm.models.tiny.corpus.held_out import held_out_words, training_words
from rxllm.models.tiny.corpus.messages import Conversation, Message
from rxllm.models.tiny.corpus.prompts import (
    Prompt,
    ToolPrompt,
    json_prompts,
    story_prompts,
    tool_prompts,
)

__all__ = [
    "Conversation",
    "Message",
    "Prompt",
    "ToolPrompt",
    "conversations",
    "held_out_words",
    "json_prompts",
    "story_prompts",
    "tool_prompts",
    "training_words",
]
