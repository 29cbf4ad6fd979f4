"""Host a room with several people and a model."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
from aiohttp import web

import rxllm
from rxllm.models.scripted import ScriptedModel
from rxllm.server import create_app

ROOM = "library"
STORY = "Once there was a fox who could not sleep, so she counted the hens of her neighbours."


class Guest:
    """A participant in the room."""

    def __init__(self, name: str, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.name = name
        self.socket = socket
        self.answer = ""  # the model's answer so far

    async def do(self, kind: str, **fields: Any) -> None:
        await self.socket.send_json({"type": kind, "room": ROOM, **fields})

    async def until(self, kind: str, **fields: Any) -> dict[str, Any]:
        while True:
            message: dict[str, Any] = await self.socket.receive_json()
            if message["type"] == "chunk":
                self.answer += message["chunk"].get("text", "")
            if message["type"] == kind and fields.items() <= message.items():
                return message


@asynccontextmanager
async def guest(session: aiohttp.ClientSession, name: str) -> AsyncIterator[Guest]:
    async with session.ws_connect("/ws") as socket:
        someone = Guest(name, socket)
        await someone.do("join", name=name)
        joined = await someone.until("joined", name=name)
        heard = [message["text"] for message in joined.get("history", [])]
        print(f"{name} meets {joined['participants']}, and reads {heard}")
        yield someone


async def meet(session: aiohttp.ClientSession) -> None:
    async with guest(session, "Ann") as ann, guest(session, "Bob") as bob:
        await ann.do("say", text="He said it would rain.")  # not addressed to the model
        await bob.do("say", text="Bot, tell me a story about a fox!")
        await ann.until("typing", name="assistant", typing=True)
        await ann.until("chunk")
        async with guest(session, "Cleo") as cleo:
            answers = await asyncio.gather(
                *(each.until("room_message", bot=True) for each in (ann, bob, cleo))
            )
            print(f"{answers[0]['name']}: {answers[0]['text'][:60]}...")
            print("under one id:", len({answer["id"] for answer in answers}) == 1)
            print("all have it all:", cleo.answer == bob.answer == answers[0]["text"])
        print((await bob.until("left"))["name"], "has left")


async def main() -> None:
    model = ScriptedModel(STORY, by="word", delay=0.1)
    runner = web.AppRunner(create_app({"storyteller": model}))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    async with aiohttp.ClientSession(f"http://{host}:{port}") as session:
        await meet(session)
    await runner.cleanup()


rxllm.run(main())
