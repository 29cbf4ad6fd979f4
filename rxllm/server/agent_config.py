"""The agents of a configuration file."""

from __future__ import annotations

import copy
import importlib
import logging
import os
import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import Any, Final, Literal, Self

import msgspec

from rxllm.agents import Agent, FunctionTool, ToolContext, ToolError, mcp_server
from rxllm.chunks import ToolCall
from rxllm.errors import BadRequestError
from rxllm.requests import Model

__all__ = ["AgentConfig", "ConfiguredAgent", "McpConfig"]

_log: Final = logging.getLogger("rxllm.server")

_SECRET_BYTES: Final = 32
_MOST_CLAIMS: Final = 100_000

_Approval = Literal["run", "ask"]
_Connection = AbstractAsyncContextManager[list[FunctionTool]]


class _Table(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    pass


class McpConfig(_Table):
    """An MCP server whose tools an agent has: a command that starts it, or its URL.

    Raises:
        ValueError: neither or both are given, or an option belongs to the other.
    """

    command: list[str] = []
    url: str | None = None
    env: dict[str, str] | None = None
    cwd: str | None = None
    headers: dict[str, str] | None = None
    connect_timeout: float = 30
    prefix: str = ""

    def __post_init__(self) -> None:
        if bool(self.command) == (self.url is not None):
            raise ValueError("an MCP server requires a command or a url, and not both")
        if self.url is not None and not self.url.startswith(("http://", "https://")):
            raise ValueError(
                f"the url of an MCP server begins with http:// or https://, got {self.url!r}"
            )

    def connection(self) -> _Connection:
        """Return a connection to the server, to be entered once.

        Raises:
            ImportError: the extra `mcp` isn't installed.
            TypeError, ValueError: an option is invalid.
        """
        command = [self.url] if self.url is not None else self.command
        return mcp_server(
            *command,
            env=self.env,
            cwd=self.cwd,
            headers=self.headers,
            connect_timeout=self.connect_timeout,
            prefix=self.prefix,
        )


class AgentConfig(_Table):
    """An agent: its public name, its model (of this file, or a name for `rxllm.model`), its tools.

    Tools are Python functions, as `package.module:function`; `approval` says of some of them, or of
    those of MCP servers, that somebody must be asked. The `secret` signs approvals: without one it
    is made at the start, and approvals don't outlive the server.
    """

    name: str
    model: str
    instructions: str | None = None
    max_steps: int = 20
    tools: list[str] = []
    mcp: list[McpConfig] = []
    approval: dict[str, _Approval] = {}
    secret: str | None = None
    secret_env: str | None = None

    def make(self, model: Model) -> ConfiguredAgent:
        """Return the agent, with this model.

        Raises:
            BadRequestError: a tool can't be imported or isn't one, two have the same name, an
                approval is about no tool, or another option is invalid.
        """
        try:
            return ConfiguredAgent(
                model,
                [_imported(path) for path in self.tools],
                [each.connection() for each in self.mcp],
                self.approval,
                instructions=self.instructions,
                max_steps=self.max_steps,
                secret=self._secret(),
                name=self.name,
            )
        except (BadRequestError, ImportError, TypeError, ValueError) as error:
            raise BadRequestError(f"the agent {self.name!r}: {error}") from error

    def _secret(self) -> bytes:
        given = self.secret
        if given == "" or (given is not None and self.secret_env is not None):
            raise BadRequestError("give a secret that isn't empty, or a secret_env, and not both")
        if self.secret_env is not None:
            given = os.environ.get(self.secret_env)
            if not given:
                raise BadRequestError(f"the environment variable {self.secret_env} is not set")
        return secrets.token_bytes(_SECRET_BYTES) if given is None else given.encode()


class ConfiguredAgent(Agent):
    """An agent whose MCP servers are connected while it is entered.

    Args:
        model: the model.
        tools: those that it has by itself.
        connections: give the other tools.
        approval: how the tools with these names are approved.
        options: those of `Agent`.

    Raises:
        BadRequestError: two tools have the same name, or an approval is about no tool.
    """

    def __init__(
        self,
        model: Model,
        tools: Sequence[FunctionTool],
        connections: Sequence[_Connection] = (),
        approval: Mapping[str, _Approval] | None = None,
        **options: Any,
    ) -> None:
        claim = _Claims().claim
        super().__init__(model, tools, claim=claim, on_tool_error=_told_error, **options)
        self._own_tools = list(self.tools.values())
        self._connections = connections
        self._approval = dict(approval or {})
        self._stack = AsyncExitStack()
        if not connections:
            self._check_approval()
        self._set_approval()

    def share_claims(self, claim: Callable[[str], Awaitable[bool]]) -> None:
        """Let approved calls be made once by several servers.

        Args:
            claim: called with the token of a call; returns whether no other server has made it.
        """
        self.claim = lambda token, _: claim(token)

    async def __aenter__(self) -> Self:
        """Connect the MCP servers.

        Raises:
            ConnectionFailedError, ConnectTimeoutError: a server can't be reached.
            BadRequestError: two tools have the same name, or an approval is about no tool.
        """
        async with AsyncExitStack() as stack:
            for connection in self._connections:
                for tool in await stack.enter_async_context(connection):
                    if tool.name in self.tools:
                        raise BadRequestError(
                            f"the agent {self.name!r}: two tools have the name {tool.name!r}: give "
                            "the MCP server a prefix"
                        )
                    self.tools[tool.name] = tool
            self._check_approval()
            self._set_approval()
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the connections, and drop their tools."""
        self.tools.clear()
        self.tools.update({tool.name: tool for tool in self._own_tools})
        await self._stack.aclose()

    def _check_approval(self) -> None:
        for name in self._approval:
            if name not in self.tools:
                known = ", ".join(self.tools) or "none"
                raise BadRequestError(
                    f"the agent {self.name!r}: approval is about {name!r}, which isn't one of its "
                    f"tools: {known}"
                )

    def _set_approval(self) -> None:
        for name, approval in self._approval.items():
            tool = self.tools.get(name)
            if isinstance(tool, FunctionTool):
                own = copy.copy(tool)  # another agent may have the same function
                own.approval = approval
                self.tools[name] = own


class _Claims:
    """The approved calls that were made: two requests with one approval make a call once."""

    def __init__(self) -> None:
        self._made: dict[str, None] = {}

    def claim(self, token: str, _: ToolContext) -> bool:
        """Return whether this is the first claim of a call."""
        if token in self._made:
            return False
        self._made[token] = None
        if len(self._made) > _MOST_CLAIMS:
            del self._made[next(iter(self._made))]
        return True


def _told_error(call: ToolCall, error: Exception) -> str:
    """Return the words of a `ToolError` alone: clients see them, too. Any other error is logged."""
    if isinstance(error, ToolError):
        return str(error) or "it failed"
    _log.error("the tool %s failed (call %s)", call.name, call.id, exc_info=error)
    return "the tool failed"


def _imported(path: str) -> FunctionTool:
    """Return the tool that `package.module:function` names."""
    module, colon, name = path.partition(":")
    if not (colon and module and name):
        raise BadRequestError(f"a tool is named as 'package.module:function', got {path!r}")
    try:
        found: Any = importlib.import_module(module)
        for each in name.split("."):
            found = getattr(found, each)
    except (Exception, SystemExit) as error:
        raise BadRequestError(
            f"the tool {path!r} can't be imported: {type(error).__name__}: {error}"
        ) from error
    if isinstance(found, FunctionTool):
        return found
    try:
        return FunctionTool(found)
    except (TypeError, ValueError) as error:
        raise BadRequestError(f"the tool {path!r} isn't one: {error}") from error
