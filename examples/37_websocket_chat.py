"""Run streams and a chat over one WebSocket of `rxllm serve`.

Each message of the server has a `type`; messages of a stream also carry the `id` chosen by the
client.
"""

import asyncio
from typing import Any

import aiohttp
from aiohttp import web

import rxllm
from rxllm.models.scripted import ScriptedModel
from rxllm.server import create_app


class Client:
    """The client's end of one connection."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket

    async def send(self, kind: str, **fields: Any) -> None:
        await self.socket.send_json({"type": kind, **fields})

    async def until(self, kind: str) -> dict[str, Any]:
        """Return the next message of a kind, printing the text that arrives before it."""
        while True:
            message: dict[str, Any] = await self.socket.receive_json()
            if message["type"] == kind:
                return message
            if message["type"] == "error":
                print(f"error: {message['code']}, field {message.get('field')}")
            if message["type"] == "chunk" and message["chunk"]["type"] == "token":
                print(message["chunk"]["text"], end="", flush=True)


async def stream(client: Client) -> None:
    """Pause, resume and stop a stream."""
    await client.send("start", id="count", prompt="Count", options={"model": "slow"})
    for kind in ("pause", "resume", "stop"):
        await asyncio.sleep(0.1)
        await client.send(kind, id="count")
        state = await client.until("state")
        print(f"\n{state['id']} is {state['status']}")
    complete = await client.until("complete")
    print(f"{complete['finishReason']}, {complete['tokens']} tokens of 1000")


async def chat(client: Client) -> None:
    """Chat with a server that keeps the history."""
    for number, text in enumerate(("Hello!", "Who are you?")):
        print(f"> {text}")
        await client.send("chat", id=f"chat-{number}", text=text)
        answer = await client.until("chat_message")
        print(f"\n({answer['history']} in the history)")


async def main() -> None:
    numbers = " ".join(map(str, range(1000)))
    slow = ScriptedModel(numbers, by="word", delay=0.02, name="slow")
    runner = web.AppRunner(create_app({"tiny": rxllm.model("tiny"), "slow": slow}))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    url = f"http://{host}:{port}/ws"
    async with aiohttp.ClientSession() as session, session.ws_connect(url) as socket:
        client = Client(socket)
        connected = await client.until("connected")
        models = [model["id"] for model in connected["models"]]
        print(f"connected: {connected['capabilities']}, {models}")
        await client.send("start", id="wrong", prompt="Hi", options={"maxTokens": "many"})
        await stream(client)
        await chat(client)
    await runner.cleanup()


rxllm.run(main())
