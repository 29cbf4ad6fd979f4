"""Let a local model call tools, and answer with their results."""

import json

import rxllm
from rxllm import Message, Tool

PLACES = {"Velmo": {"people": 320, "known_for": "bells"}, "Korvu": {"people": 90}}

PLACE = {"type": "object", "properties": {"place": {"type": "string"}}, "required": ["place"]}
SUM = {"type": "object", "properties": {"expression": {"type": "string"}}}
TOOLS = [
    Tool("find_place", "Look up a place", PLACE),
    Tool("calculator", "Evaluate an expression", {**SUM, "required": ["expression"]}),
]


def call(name: str, arguments: dict[str, str]) -> object:
    if name == "find_place":
        return PLACES.get(arguments["place"], {"error": "unknown place"})
    left, sign, right = arguments["expression"].split()
    numbers = int(left), int(right)
    return {"result": sum(numbers) if sign == "+" else numbers[0] * numbers[1]}


def ask(question: str) -> None:
    model = rxllm.model("tiny")
    messages = [Message("user", question)]
    print("?", question)
    while True:
        answer = rxllm.run(model.stream(messages, tools=TOOLS, temperature=0))
        messages.append(answer.message)
        if not answer.tool_calls:
            print("=", answer.text)
            return
        for made in answer.tool_calls:
            result = call(made.name, json.loads(made.arguments))
            print(" ", made.name, made.arguments, "->", result)
            messages.append(Message("tool", json.dumps(result), tool_call_id=made.id))


ask("Tell me about Velmo")
ask("What is 12 times 7?")

# A demand: whatever the question, the answer is a call, with arguments as the schema says.
forced = rxllm.model("tiny").stream("Hello!", tools=TOOLS, tool_choice="find_place", seed=1)
print(*(f"{made.name} {made.arguments}" for made in rxllm.run(forced).tool_calls))
