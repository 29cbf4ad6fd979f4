"""Let a local model use tools: an agent with a clock, a calculator and a table of places."""

import operator
import time

import rxllm
from rxllm import End, Token, ToolCall, ToolResult

PLACES: dict[str, dict[str, object]] = {
    "Velmo": {"people": 320, "known_for": "bells"},
    "Korvu": {"people": 90},
}
SIGNS = {"+": operator.add, "-": operator.sub, "*": operator.mul}


def find_place(place: str) -> dict[str, object]:
    """Look up a place."""
    if place not in PLACES:
        raise rxllm.ToolError("unknown place")
    return PLACES[place]


def calculator(expression: str) -> dict[str, int]:
    """Evaluate an expression."""
    left, sign, right = expression.split()
    return {"result": SIGNS[sign](int(left), int(right))}


def get_time() -> dict[str, str]:
    """Get the current time."""
    return {"time": time.strftime("%H:%M")}


def ask(question: str) -> None:
    print("?", question)
    for chunk in agent.stream(question, temperature=0):
        match chunk:
            case Token():
                print(chunk.text, end="")
            case ToolCall(complete=True):
                print(" ", chunk.name, chunk.arguments, end=" ")
            case ToolResult():
                print("->", chunk.content)
            case End(more=False):
                print()


agent = rxllm.Agent(rxllm.model("tiny"), [find_place, calculator, get_time])
for question in ("Tell me about Velmo", "What is 12 times 7?", "What time is it?"):
    ask(question)

# A demand: whatever the question, the answer is a call, with arguments as the schema says.
tools = [tool.tool for tool in map(rxllm.tool, [find_place, calculator])]
forced = rxllm.model("tiny").stream("Hello!", tools=tools, tool_choice="find_place", seed=1)
print(*(f"{made.name} {made.arguments}" for made in rxllm.run(forced).tool_calls))
