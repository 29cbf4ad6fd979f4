"""Write a stream to a file, which is closed in any case."""

import tempfile
from pathlib import Path

import rxllm

with tempfile.TemporaryDirectory() as directory:
    path = Path(directory) / "story.txt"
    story = rxllm.model("tiny").stream("Tell me a story about an old clock")
    result = rxllm.run(rxllm.sinks.file(story, path))
    print(f"{path.name}: {len(path.read_text(encoding='utf-8'))} characters")
    assert path.read_text(encoding="utf-8") == result.text

    broken = rxllm.model("onnx/no/such/model").stream("Tell me a story")
    try:
        rxllm.run(rxllm.sinks.file(broken, path, append=True))
    except rxllm.RxLLMError as error:
        print(f"{type(error).__name__}: {error}")
