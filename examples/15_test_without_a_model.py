"""Test code that streams with a scripted model and virtual time."""

import rxllm
from rxllm import Token
from rxllm import operators as ops
from rxllm.models.scripted import ScriptedModel
from rxllm.testing import Marbles


def test_a_slow_stream_is_batched_by_time() -> None:
    model = ScriptedModel(["Once", 3.0, " upon", " a", 3.0, " time"])
    stream = model.stream("Tell me a story").pipe(ops.batch(size=10, seconds=1.0))
    batches = [
        (time, chunk.text) for time, chunk in Marbles().run(stream) if hasattr(chunk, "text")
    ]
    assert batches == [(1.0, "Once"), (4.0, " upon a"), (6.0, " time")]
    assert model.requests[0].messages[0].content == "Tell me a story"
    assert model.active == 0


test_a_slow_stream_is_batched_by_time()
print(rxllm.run(ScriptedModel("Hi").stream("Hello")).text, Token("!").text)
