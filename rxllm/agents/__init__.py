"""Agents: tools that a model may call."""

from rxllm.agents.mcp import mcp_server, mcp_tools
from rxllm.agents.tool import Decision, FunctionTool, Policy, ToolContext, ToolError

__all__ = [
    "Decision",
    "FunctionTool",
    "Policy",
    "ToolContext",
    "ToolError",
    "mcp_server",
    "mcp_tools",
]
