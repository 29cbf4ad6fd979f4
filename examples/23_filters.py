"""Filter chunks, mask words, and guard against text that must not be shown."""

import re

import rxllm
from rxllm import Chunk, Token
from rxllm import operators as ops

PAINT = re.compile(r"\bpaint\w*", re.IGNORECASE)
QUESTION = "Tell me a story about a robot who learns to paint"


def no_reasoning(chunk: Chunk) -> Chunk | None:
    return None if isinstance(chunk, rxllm.Reasoning) else chunk


def plain_spaces(chunk: Chunk) -> Chunk:
    return Token(chunk.text.replace("\n", " ")) if isinstance(chunk, Token) else chunk


def note(redaction: ops.Redaction) -> None:
    print("masked:", redaction.count, "of the word:", redaction.by.get("robot", 0))


async def no_shouting(text: str) -> bool:
    """Stands in for a remote moderation service."""
    return not re.search(r"[A-Z ]{6}", text)


async def main() -> None:
    answer = rxllm.model("tiny").stream(QUESTION, temperature=0)
    result = await rxllm.sinks.collect(
        answer.pipe(
            ops.filters(no_reasoning, plain_spaces),
            ops.redact("robot", PAINT, ignore_case=True, on_result=note),
            ops.drop_blank(),
        )
    )
    print(result.text)

    loud = rxllm.model("scripted/This is fine. THIS IS NOT FINE. And so on.")
    guarded = loud.stream("Go on").pipe(ops.guard(no_shouting, every=14, context=5))
    result = await guarded
    print(repr(result.text), result.finish_reason)


rxllm.run(main())
