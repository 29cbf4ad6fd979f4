"""The application: all endpoints, behind what keeps them safe."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from aiohttp import hdrs, web

from rxllm import operators as ops
from rxllm.errors import RxLLMError
from rxllm.requests import Model
from rxllm.server import admin, endpoints, health, schema
from rxllm.server.app_keys import LIMITS, MODELS, READERS, SETTINGS, STREAMS, Readers
from rxllm.server.catalogue import Catalogue, default_models
from rxllm.server.failures import refuse
from rxllm.server.limits import Limits
from rxllm.server.openai import endpoints as openai_endpoints
from rxllm.server.openai.endpoints import openai_error
from rxllm.server.safety import Guard
from rxllm.server.websocket.endpoint import add_websocket
from rxllm.settings import Settings
from rxllm.web.failures import RefusedError, failure_message, status_of
from rxllm.web.memory_store import MemoryStreams
from rxllm.web.stream_store import StreamStore

__all__ = ["create_app", "drain"]

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_PAGE: Final = Path(__file__).parent / "page"
_ROOT: Final = "rxllm.page"


def create_app(
    models: Mapping[str, Model] | Sequence[str] | None = None,
    default_model: str | None = None,
    *,
    api_key: str | None = None,
    cors: Sequence[str] = (),
    hosts: Sequence[str] = (),
    limits: Limits | None = None,
    settings: Settings | None = None,
    store: Callable[[ops.StreamRegistry, Limits], StreamStore] = MemoryStreams,
) -> web.Application:
    """The demo server as an aiohttp application: to be run, or added to another with `add_subapp`.

    At its shutdown it takes no new streams, lets those that live finish within
    `settings.shutdown` seconds, and cancels the rest.

    Args:
        models: by the names that clients give, or names for `rxllm.model`; the bundled model if
            None. Clients can ask for no others.
        default_model: what is asked when a request names none; the first one if None.
        api_key: what clients have to know; None asks for none.
        cors: origins of other sites whose pages may use the server, such as
            `https://example.org`; `"*"` is every site.
        hosts: names under which the server is reached, besides those of loopback. With some, no
            others are answered; without, a server on a loopback address answers to no others.
        limits: what clients may ask for.
        settings: how many streams run at once, and how long a model may be silent.
        store: makes what holds the streams.

    Raises:
        BadRequestError: a model, the key or an origin can't be right.
        ModelNotFoundError: the default model is none of the models.
    """
    limits = Limits() if limits is None else limits
    settings = Settings() if settings is None else settings
    registry = ops.StreamRegistry(
        keep=max(1, limits.ended_streams), max_idle=None, max_pause=settings.max_pause
    )
    guard = Guard(api_key, cors, hosts)
    app = web.Application(
        middlewares=[_answer_errors, guard.middleware], client_max_size=limits.body_bytes
    )
    app[LIMITS] = limits
    app[SETTINGS] = settings
    app[READERS] = Readers(limits.readers)
    app[MODELS] = Catalogue(
        default_models() if models is None else models,
        default_model,
        limits,
        settings,
        registry,
        health.new_metrics(),
    )
    app[STREAMS] = store(registry, limits)
    parts = (endpoints, admin, health, openai_endpoints, schema)
    app.add_routes([route for part in parts for route in part.routes])
    app.router.add_get("/", _page, name=_ROOT)
    app.router.add_static("/static/", _PAGE)
    app.on_response_prepare.append(guard.prepare)
    app.on_shutdown.append(drain)
    add_websocket(app)
    app.cleanup_ctx.append(_run_store)
    return app


async def drain(app: web.Application) -> None:
    """Take no new streams, and let those that live finish until the deadline. Twice is once."""
    await app[MODELS].registry.shutdown(app[SETTINGS].shutdown)


async def _run_store(app: web.Application) -> AsyncIterator[None]:
    await app[STREAMS].start()
    yield
    await app[STREAMS].close()


async def _page(request: web.Request) -> web.StreamResponse:
    return web.FileResponse(_PAGE / "index.html", headers={"Cache-Control": "no-cache"})


@web.middleware
async def _answer_errors(request: web.Request, handler: _Handler) -> web.StreamResponse:
    """Answer with a status and an `error` message, unless the answer has begun."""
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
            raise  # so that the connection is cut: the client sees no clean end
        if _is_long_name(request, error):
            return _refuse(request, RefusedError("not_found", "Not Found", 404))
        if not isinstance(error, RxLLMError):
            asyncio.get_running_loop().call_exception_handler(
                {"message": f"{request.method} {request.path} failed", "exception": error}
            )
        return _refuse(request, error)


def _is_long_name(request: web.Request, error: Exception) -> bool:
    """Whether a static file was asked for by a name that no file can have."""
    is_static = isinstance(request.match_info.route.resource, web.StaticResource)
    return is_static and isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG


def _refuse(request: web.Request, error: Exception) -> web.Response:
    root = request.app.router[_ROOT].canonical  # below another application, if it is a part of one
    if request.rel_url.raw_path.startswith(f"{root}v1/"):
        return openai_error(failure_message(error), status_of(error))
    return refuse(error)
