"""Render text, JSON by a schema, or Markdown while the answer streams."""

import msgspec

import rxllm
from rxllm import Json
from rxllm import operators as ops
from rxllm.models.scripted import ScriptedModel
from rxllm.sinks import dispatch


class Cat(msgspec.Struct):
    """The schema of the answer."""

    name: str
    age: int


def on_json(json: Json, _: object) -> None:
    print("complete:" if json.complete else "so far:", json.value)


async def show(answer: str) -> None:
    stream = ScriptedModel(answer, by="word", delay=0.03).stream("How?")
    async for chunk in stream.pipe(ops.markdown_to_html()):
        if isinstance(chunk, ops.Html):
            print("final" if chunk.final else "open ", chunk.block, repr(chunk.html))


async def say(prompt: str) -> None:
    story = rxllm.model("tiny").stream(prompt, max_tokens=12, temperature=0)
    async for text in story.pipe(ops.text()):
        print(text, end="")  # a plain string
    print()


rxllm.run(say("Tell me a story about a cat"))

prompt = "Give me a JSON record of a cat named Mia with the keys name and age"
schema = msgspec.json.schema(Cat)  # the model can't write anything else
record = rxllm.model("tiny").stream(prompt, temperature=0, response_format=schema)
rxllm.run(dispatch(record.pipe(ops.parse_json(Cat, seconds=0.001)), {Json: on_json}))

rxllm.run(show("Run **this**:\n\n```python\nprint(1 < 2)\n```\n\nnot <script>this</script>"))
