"""Register a handler for each class of chunk, with a shared context."""

from dataclasses import dataclass, field

import rxllm
from rxllm import End, Token, Usage


@dataclass
class Tally:
    """The results of the handlers."""

    longest: str = ""
    tokens: int = 0
    reasons: list[str] = field(default_factory=list)


def on_token(token: Token, tally: Tally) -> None:
    tally.longest = max(tally.longest, token.text, key=len)


def on_usage(usage: Usage, tally: Tally) -> None:
    tally.tokens += usage.output_tokens


def on_end(end: End, tally: Tally) -> None:
    tally.reasons.append(end.finish_reason)


stream = rxllm.model("tiny").stream("Tell me a story about a lighthouse")
tally = rxllm.sinks.dispatch(
    stream, {Token: on_token, Usage: on_usage, End: on_end}, context=Tally()
)
print(rxllm.run(tally))
