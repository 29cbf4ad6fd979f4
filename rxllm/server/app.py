"""The aiohttp application: all endpoints behind the `Guard`."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any, Final

from aiohttp import HttpVersion11, hdrs, web
from reactivex import Observable

from rxllm import operators as ops
from rxllm.chunks import Chunk
from rxllm.errors import RxLLMError
from rxllm.requests import Model
from rxllm.server import admin, endpoints, health, schema
from rxllm.server.access_log import AccessLog
from rxllm.server.address import ServerAddress
from rxllm.server.ag_ui import endpoints as ag_ui_endpoints
from rxllm.server.agent_config import ConfiguredAgent
from rxllm.server.anthropic import endpoints as anthropic_endpoints
from rxllm.server.anthropic.endpoints import anthropic_error, is_anthropic
from rxllm.server.app_keys import (
    ADDRESS,
    LIMITS,
    MODELS,
    READERS,
    REQUIRES_KEY,
    ROOT,
    SETTINGS,
    STREAMS,
    Readers,
)
from rxllm.server.asked import AskedStream
from rxllm.server.budgets import Budgets
from rxllm.server.catalogue import Catalogue, models_by_name
from rxllm.server.client import CLIENT, Client
from rxllm.server.failures import refuse
from rxllm.server.http_messages import Options
from rxllm.server.keys import Key, Keys
from rxllm.server.limits import Limits
from rxllm.server.ollama import endpoints as ollama_endpoints
from rxllm.server.ollama.endpoints import ollama_error
from rxllm.server.openai import endpoints as openai_endpoints
from rxllm.server.openai.endpoints import openai_error
from rxllm.server.persona import Persona, RoomSettings
from rxllm.server.responses_api import endpoints as responses_endpoints
from rxllm.server.rooms import endpoints as room_endpoints
from rxllm.server.safety import Guard
from rxllm.server.ui_messages import endpoints as ui_endpoints
from rxllm.server.websocket.endpoint import add_websocket
from rxllm.settings import Settings
from rxllm.web.failures import RefusedError, failure_message, status_of
from rxllm.web.memory_store import MemoryStreams
from rxllm.web.shared_store import SharedStore
from rxllm.web.stream_store import StreamStore

__all__ = ["create_app", "drain"]

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_OLLAMA: Final = ("api/chat", "api/generate", "api/tags", "api/show", "api/version", "api/ps")
_PAGE: Final = Path(__file__).parent / "page"


def create_app(
    models: Mapping[str, Model] | Sequence[str | Model] | None = None,
    default_model: str | None = None,
    *,
    api_key: str | None = None,
    keys: Sequence[Key] = (),
    cors: Sequence[str] = (),
    hosts: Sequence[str] = (),
    proxies: Sequence[str] = (),
    limits: Limits | None = None,
    settings: Settings | None = None,
    chat: Persona | None = None,
    rooms: RoomSettings | None = None,
    isolate: bool | None = None,
    preload: bool = False,
    logger: Any = None,
    log_prompts: bool = False,
    store: Callable[[ops.StreamRegistry, Limits], StreamStore] | None = None,
    take_over: bool = True,
    address: str | None = None,
) -> web.Application:
    """Create the server as an aiohttp application, to run or to add to another with `add_subapp`.

    On shutdown it accepts no new streams, lets live ones finish within `settings.shutdown` seconds,
    and cancels the rest.

    Args:
        models: models by their public names, or a list of names for `rxllm.model` and of models;
            the bundled model if `None`. Clients can't request any others. A model that is an
            asynchronous context manager is entered at the start. An `Agent` whose tools wait for
            approvals should have a `secret`: without it, clients can make approvals themselves.
        default_model: the model for requests that don't name one; the first one if `None`.
        api_key: the key that clients must send, or `None` if no key is required. It sees the
            streams of all.
        keys: several keys, each with a name and limits; streams belong to the key that began them.
            If a budget is in dollars, the price of each model must be known.
        cors: origins of other sites whose pages may use the server, such as
            `https://example.org`; `"*"` allows every site.
        hosts: host names of the server, besides loopback. If there are any, requests for other
            names are rejected; a server on a loopback address always rejects other names.
        proxies: addresses or networks (`10.0.0.0/8`) of trusted reverse proxies, whose
            `X-Forwarded-Host` and `X-Forwarded-For` headers replace `Host` and the address of the
            client. They must set these headers, or remove those of the client.
        limits: the limits for clients.
        settings: time limits, attempts, slots and sizes of each stream; by default
            `default_settings(limits)`.
        chat, rooms: the system prompt, the model and the options of the answers in the chats and
            in the rooms of `/ws`.
        isolate: whether local models that are given by name run in processes of their own, so that
            native code that crashes doesn't end the server; `None` for all but the bundled one.
        preload: whether local models are loaded before the server accepts requests, rather than
            for their first stream. If one can't be, the server doesn't start.
        logger: a structlog logger for the access log, which has a line for each stream that has
            ended; `None` for no log.
        log_prompts: whether the lines have the last 1,000 characters of the prompt.
        store: creates the store of the streams; `None` for one in memory, whose readers may lag
            `settings.buffer_size` events behind. Several servers share streams with
            `partial(RedisStreams, "redis://...")`.
        take_over: whether a stream of another server that has died is continued here, if its answer
            is text alone. Its request, with the prompt, is in the store for that.
        address: the URL of this server among those that share a store, such as
            `https://one.example.org/`, for clients that ask another one for a room that is here.
            By default the one on which `serve` listens, or else the name of the machine and the
            number of the process.

    Raises:
        BadRequestError: a model, a key, an origin, a host, a proxy or the address is invalid, or a
            price isn't known.
        ModelNotFoundError: the default model, or that of the chat or the rooms, isn't one of the
            models.
        TypeError: `limits`, `settings`, `chat` or `rooms` is not of its class.
    """
    limits = Limits() if limits is None else limits
    _check_kind("limits", limits, Limits)
    settings = Settings(**default_settings(limits)) if settings is None else settings
    _check_kind("settings", settings, Settings)
    if not isinstance(models, Mapping):
        models = models_by_name(models, isolate=isolate, connect=settings.connect)
    registry = ops.StreamRegistry(
        keep=max(1, limits.ended_streams), max_idle=None, max_pause=settings.max_pause
    )
    single = [] if api_key is None else [Key(name="", key=api_key, admin=True)]
    known = Keys([*single, *keys])
    budgets = Budgets(keys)
    budgets.check_prices(models)
    guard = Guard(known, cors, hosts, proxies)
    app = web.Application(
        middlewares=[_answer_errors, guard.middleware], client_max_size=limits.body_bytes
    )
    app[ADDRESS] = ServerAddress(address)
    app[LIMITS] = limits
    app[SETTINGS] = settings
    app[REQUIRES_KEY] = bool(known)
    app[READERS] = Readers(limits.readers)
    app[MODELS] = Catalogue(
        models,
        default_model,
        limits,
        settings,
        registry,
        health.new_metrics(),
        None if logger is None else AccessLog(logger, registry, prompts=log_prompts),
        budgets,
    )
    app[STREAMS] = (
        MemoryStreams(registry, limits, settings.buffer_size)
        if store is None
        else store(registry, limits)
    )
    streams = app[STREAMS]
    if isinstance(streams, SharedStore):
        streams.share_live(app[MODELS].owner_of)
        for agent in app[MODELS].models:
            if isinstance(agent, ConfiguredAgent):
                agent.share_claims(streams.claim)
    parts = (
        *(endpoints, admin, room_endpoints, health, schema),
        *(openai_endpoints, responses_endpoints, anthropic_endpoints),
        *(ui_endpoints, ag_ui_endpoints, ollama_endpoints),
    )
    app.add_routes([route for part in parts for route in part.routes])
    app.router.add_get("/", _page, name=ROOT)
    app.router.add_static("/static/", _PAGE)
    for route in app.router.routes():
        route._expect_handler = _expect  # noqa: SLF001 - the only way to set it for all
    app.on_response_prepare.append(guard.prepare)
    app.on_shutdown.append(drain)
    chat = Persona() if chat is None else chat
    rooms = RoomSettings() if rooms is None else rooms
    for name, persona, kind in (("chat", chat, Persona), ("rooms", rooms, RoomSettings)):
        _check_kind(name, persona, kind)
        options = persona.options(Options())
        app[MODELS].find(options.model)
        app[MODELS].request("?", options)
    add_websocket(app, chat, rooms)
    app.cleanup_ctx.append(_run_models)
    app[MODELS].may_be_resumed = take_over
    app.cleanup_ctx.append(partial(_run_store, keys=known))
    if preload:
        app.on_startup.append(_preload)
    return app


def _check_kind(name: str, value: object, kind: type[object]) -> None:
    if not isinstance(value, kind):
        raise TypeError(f"{name} must be a {kind.__name__}, got {type(value).__name__}")


def default_settings(limits: Limits) -> dict[str, Any]:
    """Return the settings of a server that differ from the defaults.

    As many streams of remote models run at once as may be live, and nothing is asked again, which
    clients do themselves.
    """
    return {"remote_streams": limits.streams, "attempts": 1, "total": limits.stream_seconds}


async def _expect(request: web.Request) -> web.StreamResponse | None:
    """Answer an `Expect` header (RFC 9110, 10.1.1): aiohttp fails at bytes that aren't ASCII."""
    if request.headers.get(hdrs.EXPECT, "").lower() != "100-continue":
        raise web.HTTPExpectationFailed
    if request.version >= HttpVersion11:
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0  # so that the response isn't taken for begun
    return None


async def _preload(app: web.Application) -> None:
    await app[MODELS].load()


async def drain(app: web.Application) -> None:
    """Accept no new streams, and let live ones finish until the deadline. Idempotent."""
    await app[MODELS].registry.shutdown(app[SETTINGS].shutdown)


async def _run_models(app: web.Application) -> AsyncIterator[None]:
    """Enter the models that are context managers, such as agents with MCP servers."""
    async with AsyncExitStack() as stack:
        for model in app[MODELS].models:
            if isinstance(model, AbstractAsyncContextManager):
                await stack.enter_async_context(model)
        yield


async def _run_store(app: web.Application, keys: Keys) -> AsyncIterator[None]:
    def resume(stream_id: str, data: bytes, said: Sequence[Chunk]) -> Observable[Chunk]:
        asked = AskedStream.decode(data)
        before = CLIENT.set(Client(key=keys.named(asked.client)))
        try:
            return app[MODELS].resume(stream_id, asked, said)
        finally:
            CLIENT.reset(before)

    await app[STREAMS].start(resume if app[MODELS].may_be_resumed else None)
    yield
    await app[STREAMS].close()


async def _page(request: web.Request) -> web.StreamResponse:
    return web.FileResponse(_PAGE / "index.html", headers={"Cache-Control": "no-cache"})


@web.middleware
async def _answer_errors(request: web.Request, handler: _Handler) -> web.StreamResponse:
    """Respond to a failure with a status and an `error` message, unless the response has begun."""
    try:
        return await handler(request)
    except web.HTTPException as error:
        if error.status < 400:
            raise
        code = "_".join(error.reason.lower().split())
        response = _refuse(request, RefusedError(code, error.reason, error.status))
        if hdrs.ALLOW in error.headers:
            response.headers[hdrs.ALLOW] = error.headers[hdrs.ALLOW]
        return response
    except Exception as error:
        if request.writer.output_size > 0:
            raise  # cuts the connection, so that the client doesn't see a clean end
        if _is_long_name(request, error):
            return _refuse(request, RefusedError("not_found", "Not Found", 404))
        if not isinstance(error, RxLLMError):
            asyncio.get_running_loop().call_exception_handler(
                {"message": f"{request.method} {request.path} failed", "exception": error}
            )
        return _refuse(request, error)


def _is_long_name(request: web.Request, error: Exception) -> bool:
    """Return whether the name of a static file was too long for the file system."""
    is_static = isinstance(request.match_info.route.resource, web.StaticResource)
    return is_static and isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG


def _refuse(request: web.Request, error: Exception) -> web.Response:
    root = request.app.router[ROOT].canonical  # includes the prefix of an outer application
    if request.rel_url.raw_path.startswith(f"{root}v1/"):
        refuse_v1 = anthropic_error if is_anthropic(request) else openai_error
        return refuse_v1(failure_message(error), status_of(error))
    if request.rel_url.raw_path.removeprefix(root) in _OLLAMA:
        return ollama_error(failure_message(error), status_of(error))
    return refuse(error)
