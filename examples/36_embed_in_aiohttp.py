"""Add NDJSON and WebSocket streams to an aiohttp application.

The model stops when its client disconnects; a registry lists the live streams.
"""

import asyncio
import json

import aiohttp
from aiohttp import web

import rxllm
from rxllm import operators as ops
from rxllm.sinks import DeliveryReport

MODEL = web.AppKey("MODEL", rxllm.Model)
REGISTRY = web.AppKey("REGISTRY", ops.StreamRegistry)


async def lines(request: web.Request) -> web.StreamResponse:
    """Send a stream as NDJSON; `left` is True if the client disconnected before the end."""
    try:
        prompt = (await request.json())["prompt"]
        stream = request.app[MODEL].stream(prompt, max_tokens=30, seed=1)
    except (ValueError, KeyError, TypeError, rxllm.errors.BadRequestError) as error:
        raise web.HTTPBadRequest(text=f'send {{"prompt": "a question"}}: {error!r}\n') from None
    stream = stream.pipe(ops.track(request.app[REGISTRY]), ops.progress())

    def on_end(delivered: DeliveryReport) -> None:
        print(f"server: {delivered.result.timings.tokens} tokens, left early: {delivered.left}")

    return await rxllm.sinks.ndjson(request, stream, on_end=on_end)


async def talk(request: web.Request) -> web.WebSocketResponse:
    """Treat each message as a prompt, and send the answers concurrently."""
    socket = web.WebSocketResponse(heartbeat=15)
    await socket.prepare(request)
    async with asyncio.TaskGroup() as answers:
        number = 0
        async for message in socket:
            if message.type is not aiohttp.WSMsgType.TEXT or not message.data.strip():
                await socket.send_json({"type": "error", "message": "a prompt must be text"})
                continue
            number += 1
            stream = request.app[MODEL].stream(message.data, max_tokens=10)
            answers.create_task(rxllm.sinks.websocket(socket, stream, f"answer {number}"))
    return socket


async def health(request: web.Request) -> web.Response:
    return web.json_response({"active": len(request.app[REGISTRY].active)})


def build() -> web.Application:
    app = web.Application()
    app[MODEL] = rxllm.model("tiny")
    app[REGISTRY] = ops.StreamRegistry()
    app.router.add_post("/lines", lines)
    app.router.add_get("/talk", talk)
    app.router.add_get("/health", health)
    return app


async def use(session: aiohttp.ClientSession) -> None:
    async with session.post("/lines", json={"prompt": "Tell me a story"}) as response:
        messages = [json.loads(line) async for line in response.content]
    print(f"client: {len(messages)} lines, the last: {messages[-1]['text'][:40]!r}")

    async with session.ws_connect("/talk") as socket:
        for prompt in ("Tell me about a fox", "Tell me about a bear"):
            await socket.send_str(prompt)
        completed: list[str] = []
        while len(completed) < 2:
            answer = await socket.receive_json()
            if answer["type"] == "complete":
                completed.append(answer["id"])
    print("client:", sorted(completed))

    async with session.post("/lines", json={"prompt": "Tell me a story"}) as response:
        await response.content.readline()  # then disconnects, which the server notices at once
    async with session.get("/health") as response:
        print("client:", await response.json())


async def main() -> None:
    runner = web.AppRunner(build())
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    async with aiohttp.ClientSession(f"http://{host}:{port}") as session:
        await use(session)
    await runner.cleanup()


rxllm.run(main())
