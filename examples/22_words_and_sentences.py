"""Split a stream into words, sentences or lines; change case and quotes."""

import rxllm
from rxllm import Token
from rxllm import operators as ops
from rxllm.models.scripted import ScriptedModel


def report(counted: ops.TextCount) -> None:
    print(f"-- {counted.count} {counted.kind} of {counted.characters} characters")


def show(piece: Token, _: object) -> None:
    print(piece.number, repr(piece.text))


answer = rxllm.model("tiny").stream("Tell me a story about a robot", temperature=0, max_tokens=60)
rxllm.run(rxllm.sinks.dispatch(answer.pipe(ops.sentences(report)), {Token: show}))

pieces = ['"Pi" is 3.', "14, sa", "id Dr. Who.\r", "\nReally", "... 真的。"]
for by in (ops.words, ops.sentences, ops.lines):
    stream = ScriptedModel(pieces).stream("What is pi?").pipe(by(report))
    rxllm.run(rxllm.sinks.dispatch(stream, {Token: show}))

stream = ScriptedModel(pieces).stream("What is pi?")
stream = stream.pipe(ops.change_case("upper"), ops.punctuation("typographic"))
print(rxllm.run(stream).text)
