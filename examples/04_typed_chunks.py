"""Match on the class of each chunk: `Start`, `Token`, `Usage`, `End`."""

import rxllm
from rxllm import End, Start, Token, Usage


async def main() -> None:
    stream = rxllm.model("tiny").stream("Hello!", temperature=0, confidence=True)
    async for chunk in stream:
        match chunk:
            case Start(request_id=request_id, model=model):
                print(f"start: {model}, request {request_id.partition('-')[0]}-...")
            case Token(text=text, confidence=confidence):
                print(f"token: {text!r}, {confidence:.0%} sure")
            case Usage(input_tokens=read, output_tokens=written):
                print(f"usage: {read} tokens read, {written} written")
            case End(finish_reason=reason):
                print(f"end: {reason}")


rxllm.run(main())
