"""`GET /rooms`: the rooms of this server."""

from __future__ import annotations

from aiohttp import web

from rxllm.server.failures import json_response
from rxllm.server.messages import RoomList
from rxllm.server.websocket.endpoint import CONNECTIONS

__all__ = ["routes"]


async def list_rooms(request: web.Request) -> web.Response:
    """`GET /rooms`: the rooms of this server that have members, not those of other servers."""
    return json_response(RoomList(rooms=request.app[CONNECTIONS].rooms.listed))


routes = [web.get("/rooms", list_rooms)]
