"""Answer a request with server-sent events."""

import aiohttp
from aiohttp import web

import rxllm

model = rxllm.model("tiny")


async def story(request: web.Request) -> web.StreamResponse:
    prompt = request.query.get("prompt")
    if not prompt:
        raise web.HTTPBadRequest(text="a prompt is missing: ?prompt=Tell me a story\n")
    return await rxllm.sinks.sse(request, model.stream(prompt, max_tokens=20, seed=1))


async def main() -> None:
    app = web.Application()
    app.router.add_get("/stream", story)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    url = f"http://{host}:{port}/stream"

    async with aiohttp.ClientSession() as session:
        async with session.get(url) as response:
            print(response.status, await response.text(), end="")
        async with session.get(url, params={"prompt": "Tell me a story"}) as response:
            print(response.headers["Content-Type"])
            async for line in response.content:
                print(line.decode()[:100].rstrip())
    await runner.cleanup()


rxllm.run(main())
