"""Agents: models that use tools."""

from rxllm.agents._prune import prune, prune_steps
from rxllm.agents.agent import Agent
from rxllm.agents.inbox import Inbox
from rxllm.agents.mcp import mcp_server, mcp_tools
from rxllm.agents.run import Approvals, Prepare, Turn
from rxllm.agents.tool import Decision, FunctionTool, Policy, ToolContext, ToolError

__all__ = [
    "Agent",
    "Approvals",
    "Decision",
    "FunctionTool",
    "Inbox",
    "Policy",
    "Prepare",
    "ToolContext",
    "ToolError",
    "Turn",
    "mcp_server",
    "mcp_tools",
    "prune",
    "prune_steps",
]
