"""Race two models, or ask a second one if the first is slow."""

import rxllm
from rxllm import operators as ops
from rxllm.models.scripted import ScriptedModel

slow = ScriptedModel("I was thinking.", first_delay=5.0)
fast = ScriptedModel("Here I am.", first_delay=0.05)
eager = ScriptedModel("At your service.", first_delay=0.01)


def report(result: ops.RaceResult) -> None:
    print(f"{result.winner} after {result.seconds:.1f} s, {len(result.losers)} stopped")


async def main() -> None:
    streams = {"slow": slow.stream("Hello?"), "fast": fast.stream("Hello?")}
    print((await ops.race(streams, on_result=report)).text)

    hedged = ops.hedge(slow.stream("Hello?"), fast.stream("Hello?"), after=0.1, on_result=report)
    print((await hedged).text)

    in_time = ops.hedge(eager.stream("Hello?"), fast.stream("Hello?"), after=2, on_result=report)
    print((await in_time).text)
    print(f"streams still running: {slow.active + fast.active + eager.active}")


rxllm.run(main())
