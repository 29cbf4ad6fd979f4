"""`POST /agui`, for clients of AG-UI, such as CopilotKit.

Source: https://docs.ag-ui.com/concepts/architecture.
"""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import msgspec
from aiohttp import web

from rxllm.server.ag_ui.messages import RunRequest
from rxllm.server.app_keys import LIMITS, MODELS, READERS
from rxllm.server.facade import stream_answer
from rxllm.server.failures import decoded, read_body, refusal
from rxllm.web.ag_ui.writer import AG_UI_WIRE, AGUIWriter

__all__ = ["routes"]

_body = msgspec.json.Decoder(RunRequest)
_fields = msgspec.json.Decoder(dict[str, Any])


async def run(request: web.Request) -> web.StreamResponse:
    """`POST /agui`: a run, as AG-UI events."""
    data = await read_body(request, request.app[LIMITS])
    body = decoded(_body, data)
    options = body.as_options()
    catalogue = request.app[MODELS]
    instructions = getattr(catalogue.find(options.model), "instructions", None)
    asked = catalogue.request(body.as_messages(instructions), options, tools=body.as_tools())
    stream_id = f"run-{uuid4().hex}"
    with request.app[READERS].one_more():
        return await stream_answer(
            request,
            asked,
            options,
            stream_id=stream_id,
            wire=AG_UI_WIRE,
            writer=AGUIWriter(
                stream_id,
                model=options.model or catalogue.default,
                thread_id=body.thread_id,
                run_id=body.run_id,
                messages=decoded(_fields, data)["messages"],
            ),
            refuse=refusal,
            name_of=lambda field: "resume" if field == "approvals" else field,
            approvals=body.as_approvals(),
        )


routes: list[web.RouteDef] = [web.post("/agui", run)]
