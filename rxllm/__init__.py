"""rxllm: every model, local or remote, is an Observable of chunks.

`model("provider/name").stream(prompt)` returns a cold Observable; the operators in
`rxllm.operators` transform it, the sinks in `rxllm.sinks` subscribe to it, and `run` starts an
event loop for a script.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rxllm import errors, models, operators, sinks
from rxllm._lazy_names import lazy_names
from rxllm.bridge import from_async, run
from rxllm.chunks import (
    ApprovalRequest,
    Batch,
    Chunk,
    Citation,
    End,
    ErrorInfo,
    FileOutput,
    Json,
    Notice,
    Progress,
    ProviderState,
    Reasoning,
    Start,
    Steering,
    Token,
    ToolCall,
    ToolResult,
    Usage,
)
from rxllm.errors import RxLLMError, classify_error
from rxllm.iteration import to_async
from rxllm.messages import FilePart, ImagePart, Message, ReasoningPart, TextPart, Tool
from rxllm.model_table import ModelFacts, ModelTable, Price, read_model_table
from rxllm.models.registry import available_models, list_models, model, register
from rxllm.requests import Model, ModelInfo, Request, RequestOptions, streaming_pays
from rxllm.result import Result
from rxllm.settings import Settings
from rxllm.stream import Stream
from rxllm.token_count import TokenCount
from rxllm.valve import StreamScheduler, Valve

if TYPE_CHECKING:
    from rxllm import benchmark, server, testing, web
    from rxllm.agents import prune, prune_steps
    from rxllm.agents.agent import Agent
    from rxllm.agents.inbox import Inbox
    from rxllm.agents.mcp import mcp_server, mcp_tools
    from rxllm.agents.tool import FunctionTool, ToolContext, ToolError, tool
    from rxllm.chat import Chat
    from rxllm.models.journal import recorded, replay
    from rxllm.piped_model import piped
    from rxllm.router import Router

__all__ = [
    "Agent",
    "ApprovalRequest",
    "Batch",
    "Chat",
    "Chunk",
    "Citation",
    "End",
    "ErrorInfo",
    "FileOutput",
    "FilePart",
    "FunctionTool",
    "ImagePart",
    "Inbox",
    "Json",
    "Message",
    "Model",
    "ModelFacts",
    "ModelInfo",
    "ModelTable",
    "Notice",
    "Price",
    "Progress",
    "ProviderState",
    "Reasoning",
    "ReasoningPart",
    "Request",
    "RequestOptions",
    "Result",
    "Router",
    "RxLLMError",
    "Settings",
    "Start",
    "Steering",
    "Stream",
    "StreamScheduler",
    "TextPart",
    "Token",
    "TokenCount",
    "Tool",
    "ToolCall",
    "ToolContext",
    "ToolError",
    "ToolResult",
    "Usage",
    "Valve",
    "available_models",
    "benchmark",
    "classify_error",
    "errors",
    "from_async",
    "list_models",
    "mcp_server",
    "mcp_tools",
    "model",
    "models",
    "operators",
    "piped",
    "prune",
    "prune_steps",
    "read_model_table",
    "recorded",
    "register",
    "replay",
    "run",
    "server",
    "sinks",
    "streaming_pays",
    "testing",
    "to_async",
    "tool",
    "web",
]
__version__ = "0.1.0"


if not TYPE_CHECKING:
    # The router needs most of the operators, the server aiohttp, and agents parse docstrings.
    __getattr__ = lazy_names(
        __name__,
        {
            "Agent": "agents.agent",
            "Chat": "chat",
            "FunctionTool": "agents.tool",
            "Inbox": "agents.inbox",
            "Router": "router",
            "ToolContext": "agents.tool",
            "ToolError": "agents.tool",
            "benchmark": "benchmark",
            "piped": "piped_model",
            "prune": "agents",
            "prune_steps": "agents",
            "recorded": "models.journal",
            "replay": "models.journal",
            "mcp_server": "agents.mcp",
            "mcp_tools": "agents.mcp",
            "server": "server",
            "testing": "testing",
            "tool": "agents.tool",
            "web": "web",
        },
    )


def __dir__() -> list[str]:
    return __all__
