"""A1, A4: the stream of a model, printed as it comes, with its speed as it runs and at the end."""

import rxllm

story = rxllm.model("tiny").stream("Tell me a story about a robot who learns to paint")
rxllm.run(rxllm.sinks.console(story))
