"""Print a stream as it arrives, with its speed."""

import rxllm

story = rxllm.model("tiny").stream("Tell me a story about a robot who learns to paint")
rxllm.run(rxllm.sinks.console(story))
