"""Stop at a sequence that is split across chunks."""

import rxllm
from rxllm import operators as ops
from rxllm.models.scripted import ScriptedModel

pieces = ["Yes, I can.", "\nHu", "m", "an", ": and you?"]
stream = ScriptedModel(pieces).stream("Can you?").pipe(ops.stop_on("\nHuman:", "\nAI:"))
result = rxllm.run(stream)
print(repr(result.text), result.finish_reason, repr(result.stop_sequence))
