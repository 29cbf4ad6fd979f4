"""Use RxPY's own `catch` to switch to a backup model when the first can't be loaded."""

import reactivex as rx
from reactivex import Observable, operators

import rxllm
from rxllm import Chunk

PROMPT = "Tell me a story about a whale"


def backup(error: Exception, _: Observable[Chunk]) -> Observable[Chunk]:
    if rxllm.classify_error(error) == "raise":
        return rx.throw(error)  # another model would not help
    print(f"{type(error).__name__}, so the bundled model answers\n")
    return rxllm.model("tiny").stream(PROMPT, max_tokens=60)


story = rxllm.model("onnx/no/such/model").stream(PROMPT).pipe(operators.catch(backup))
rxllm.run(rxllm.sinks.console(story))
