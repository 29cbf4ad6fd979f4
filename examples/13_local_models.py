"""List the models, and run the bundled one on both local engines.

Any GGUF file is `rxllm.model("llama/path/to/model.gguf")`; any ONNX decoder with a cache, in the
layout of Hugging Face Optimum, is `rxllm.model("onnx/path/to/directory")`.
"""

import asyncio
import importlib.util

import rxllm

for info in rxllm.list_models():
    print(f"{info.id:18} {info.context_length or '-':>5}  {', '.join(info.capabilities)}")


async def main() -> None:
    engines = ["tiny/onnx"]
    if importlib.util.find_spec("llama_cpp"):
        engines.append("tiny/llama")
    for engine in engines:
        model = rxllm.model(engine)
        subjects = ("a fox", "a whale", "a kite", "a baker")
        stories = [model.stream(f"Tell me a story about {s}", seed=1) for s in subjects]
        results = await asyncio.gather(*map(rxllm.sinks.collect, stories))
        print(f"\n{engine}, four streams in one batch:")
        for result in results:
            print(" ", result.text.partition(".")[0] + ".")


rxllm.run(main())
