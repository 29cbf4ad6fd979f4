"""What a conversation is made of."""

from typing import Literal, NamedTuple

Role = Literal["system", "user", "assistant", "tool"]


class Message(NamedTuple):
    """One turn of a conversation."""

    role: Role
    content: str


Conversation = list[Message]
