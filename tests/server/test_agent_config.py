"""`[[agents]]` in a configuration file: tools by their names, MCP servers, approvals, secrets."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import textwrap
import urllib.request
from pathlib import Path
from typing import Any

import msgspec
import pytest

from rxllm.agents import FunctionTool
from rxllm.errors import BadRequestError, ConnectionFailedError
from rxllm.messages import Message
from rxllm.models.scripted import ScriptedModel
from rxllm.requests import Model
from rxllm.router.router import Router
from rxllm.server import create_app
from rxllm.server.agent_config import AgentConfig, ConfiguredAgent, McpConfig
from rxllm.server.config import read_config
from rxllm.server.messages import Generated
from rxllm.server.served_models import served_models
from tests.agents.runs import calling
from tests.server.serving import serving
from tests.server.test_config import written

MCP = [sys.executable, str(Path(__file__).parents[1] / "agents" / "mcp_server_program.py")]
_KINDS = ("python", "toml")

TOOLS = '''
import rxllm

orders = []
NUMBER = 1


def find(name: str) -> str:
    """Find an article."""
    return f"{name}: 3 left"


@rxllm.tool(name="order_it", thread=False)
def order(name: str) -> str:
    """Order an article."""
    orders.append(name)
    return "ordered"


class Shop:
    @staticmethod
    def close() -> str:
        """Close the shop."""
        return "closed"


def takes_anything(*names: str) -> None: ...
'''


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A module with tools that can be imported."""
    (tmp_path / "a_shop.py").write_text(TOOLS)
    (tmp_path / "a_broken_shop.py").write_text("1 / 0")
    (tmp_path / "a_leaving_shop.py").write_text("raise SystemExit(2)")
    monkeypatch.syspath_prepend(str(tmp_path))
    import a_shop  # type: ignore[import-not-found]

    yield a_shop
    del sys.modules["a_shop"]


def models_of(folder: Path, text: str) -> dict[str, Model]:
    config = read_config(written(folder, textwrap.dedent(text)))
    return served_models(config, [], {}, None, 10.0) or {}


def test_an_agent_has_its_model_tools_and_options(tmp_path: Path, shop: Any) -> None:
    models = models_of(
        tmp_path,
        """
        [models]
        story = "scripted/Hello"

        [routers.best]
        models = ["story"]

        [[agents]]
        name = "clerk"
        model = "story"
        instructions = "Sell something."
        max_steps = 7
        tools = ["a_shop:find", "a_shop:order", "a_shop:Shop.close"]
        approval = { order_it = "ask" }
        secret = "s"

        [[agents]]
        name = "other"
        model = "best"
        tools = ["a_shop:order"]

        [[agents]]
        name = "by_name"
        model = "scripted/Hi"
        """,
    )
    assert list(models) == ["story", "best", "clerk", "other", "by_name"]
    clerk, other, by_name = models["clerk"], models["other"], models["by_name"]
    assert isinstance(clerk, ConfiguredAgent)
    assert isinstance(other, ConfiguredAgent)
    assert isinstance(by_name, ConfiguredAgent)
    assert clerk.model is models["story"]
    assert isinstance(other.model, Router)
    assert by_name.model.info.id == "scripted"
    assert (clerk.instructions, clerk.max_steps, clerk.secret) == ("Sell something.", 7, b"s")
    assert {name: tool.approval for name, tool in _functions(clerk).items()} == {
        "find": "run",
        "order_it": "ask",
        "close": "run",
    }
    assert _functions(other)["order_it"].approval == "run"  # which is the same function
    assert other.secret is not None
    assert len(other.secret) == 32
    assert other.secret != by_name.secret


def _functions(agent: ConfiguredAgent) -> dict[str, FunctionTool]:
    return {name: tool for name, tool in agent.tools.items() if isinstance(tool, FunctionTool)}


def test_the_secret_of_an_agent_is_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    config = AgentConfig(name="a", model="m", secret_env="A_SECRET")
    monkeypatch.setenv("A_SECRET", "the secret")
    assert config.make(ScriptedModel("Hi")).secret == b"the secret"
    monkeypatch.delenv("A_SECRET")
    with pytest.raises(BadRequestError, match="'a': the environment variable A_SECRET is not set"):
        config.make(ScriptedModel("Hi"))


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"tools": ["a_shop"]}, "named as 'package.module:function', got 'a_shop'"),
        ({"tools": ["no_such:find"]}, "'no_such:find' can't be imported: ModuleNotFoundError"),
        ({"tools": ["a_shop:sell"]}, "'a_shop:sell' can't be imported: AttributeError"),
        ({"tools": ["a_broken_shop:x"]}, "can't be imported: ZeroDivisionError"),
        ({"tools": ["a_shop:NUMBER"]}, "'a_shop:NUMBER' isn't one: a tool is made from a function"),
        ({"tools": ["a_shop:Shop"]}, "'a_shop:Shop' isn't one"),
        ({"tools": ["a_shop:takes_anything"]}, "'a_shop:takes_anything' isn't one"),
        ({"tools": ["a_shop:find", "a_shop:find"]}, "two tools have the name 'find'"),
        ({"tools": ["a_shop:find"], "approval": {"sell": "ask"}}, "about 'sell', which isn't"),
        ({"tools": ["a_leaving_shop:x"]}, "can't be imported: SystemExit"),
        ({"secret": ""}, "a secret that isn't empty"),
        ({"secret": "a", "secret_env": "B"}, "not both"),
        ({"max_steps": 0}, "max_steps"),
        ({"mcp": [McpConfig(command=["x"], headers={})]}, "headers are for a URL"),
    ],
)
def test_an_agent_that_can_not_be_made_says_why(
    shop: Any, fields: dict[str, Any], words: str
) -> None:
    with pytest.raises(BadRequestError) as raised:
        AgentConfig(name="clerk", model="m", **fields).make(ScriptedModel("Hi"))
    assert words in str(raised.value)
    assert "the agent 'clerk'" in str(raised.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[[agents]]\nname = "a"', ":1: agents.0.model: "),
        ('[[agents]]\nname = "a"\nmodel = "m"\ntool = []', ":4: agents.0.tool: "),
        (
            '[[agents]]\nname = "a"\nmodel = "m"\n[[agents.mcp]]\ncommand = ["x"]\nurl = "y"',
            "an MCP server requires a command or a url",
        ),
        (
            '[[agents]]\nname = "a"\nmodel = "m"\napproval = { x = "never" }',
            "agents.0.approval",
        ),
    ],
)
def test_what_is_wrong_is_named_with_its_line(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(BadRequestError) as raised:
        read_config(written(tmp_path, text))
    assert words in str(raised.value)


def test_two_models_may_not_have_one_name(tmp_path: Path) -> None:
    agent = '[[agents]]\nname = "a"\nmodel = "scripted/Hi"\n'
    with pytest.raises(BadRequestError, match="two models with the name 'a'"):
        models_of(tmp_path, agent + agent)


async def test_an_approval_makes_a_call_once(shop: Any) -> None:
    script = calling(("1", "order_it", '{"name": "a pen"}'))
    config = AgentConfig(
        name="clerk", model="m", tools=["a_shop:order"], approval={"order_it": "ask"}
    )
    agent = config.make(ScriptedModel(script, "It is on its way.", "It was ordered."))
    async with serving(create_app([agent])) as client:
        async with client.post("/generate", json={"prompt": "A pen!"}) as response:
            first = msgspec.json.decode(await response.read(), type=Generated)
        asked = {
            "messages": msgspec.to_builtins([Message("user", "A pen!"), *first.messages]),
            "approvals": {first.pending[0].token: True},
        }
        for text in ("It is on its way.", "It was ordered."):
            async with client.post("/generate", json=asked) as response:
                assert (await response.json())["text"] == text
    assert shop.orders == ["a pen"]


class TestMcp:
    @pytest.fixture(autouse=True)
    def _installed(self) -> None:
        pytest.importorskip("mcp", reason="mcp is not installed (extra mcp)")

    async def test_its_servers_are_connected_while_the_server_runs(self, tmp_path: Path) -> None:
        models = models_of(
            tmp_path,
            f"""
            [[agents]]
            name = "clerk"
            model = "scripted/Hello"
            approval = {{ calc_add = "ask" }}

            [[agents.mcp]]
            command = {msgspec.json.encode(MCP).decode()}
            prefix = "calc_"
            """,
        )
        agent = models["clerk"]
        assert isinstance(agent, ConfiguredAgent)
        model = ScriptedModel(calling(("1", "calc_add", '{"a": 2, "b": 3}')), "It is 5.")
        agent.model = model
        assert agent.tools == {}
        async with serving(create_app(models)) as client:
            assert _functions(agent)["calc_add"].approval == "ask"
            async with client.post("/generate", json={"prompt": "2 + 3"}) as response:
                first = msgspec.json.decode(await response.read(), type=Generated)
            asked = {
                "messages": msgspec.to_builtins([Message("user", "2 + 3"), *first.messages]),
                "approvals": {first.pending[0].token: True},
            }
            async with client.post("/generate", json=asked) as response:
                assert (await response.json())["text"] == "It is 5."
        assert "5" in model.requests[1].messages[-1].text
        assert agent.tools == {}

    @pytest.mark.parametrize(
        ("servers", "approval", "error", "words"),
        [
            ([["no-such-command"]], {}, ConnectionFailedError, "no-such-command"),
            ([MCP, MCP], {}, BadRequestError, "give the MCP server a prefix"),
            ([MCP], {"sell": "ask"}, BadRequestError, "approval is about 'sell'"),
        ],
    )
    async def test_what_fails_at_the_start_fails_it(
        self, servers: Any, approval: Any, error: type[Exception], words: str
    ) -> None:
        config = AgentConfig(
            name="clerk",
            model="m",
            mcp=[McpConfig(command=command) for command in servers],
            approval=approval,
        )
        agent = config.make(ScriptedModel("Hi"))
        with pytest.raises(error, match=words):
            async with serving(create_app([agent])):
                pass


def asked(url: str, body: bytes | None = None) -> Any:
    return urllib.request.urlopen(url, body, timeout=60)  # noqa: S310 - our own server


def test_the_agent_of_the_readme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`rxllm serve --config` imports the tools from the current directory."""
    section = Path("rxllm/server/README.md").read_text(encoding="utf-8").partition("### Agents")[2]
    blocks = {kind: section.partition(f"```{kind}\n")[2].partition("```")[0] for kind in _KINDS}
    assert "shop_tools:order" in blocks["toml"]
    (tmp_path / "shop_tools.py").write_text(blocks["python"])
    servers = section.partition("```toml\n")[2].partition("```toml\n")[2].partition("```")[0]
    (agent,) = read_config(written(tmp_path, blocks["toml"] + servers)).agents
    assert [(bool(each.command), bool(each.url)) for each in agent.mcp] == [
        (True, False),
        (False, True),
    ]
    written(tmp_path, blocks["toml"])
    monkeypatch.setenv("SHOP_SECRET", "s")
    monkeypatch.setenv("PYTHONPATH", str(Path.cwd()))
    command = [sys.executable, "-m", "rxllm", "serve", "--config", "rxllm.toml", "--port", "0"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as program:
        try:
            assert program.stdout is not None
            found = re.search(r"http://\S+", program.stdout.readline())
            assert found is not None
            body = b'{"prompt": "Hi", "maxTokens": 3}'
            with asked(f"{found[0]}generate", body) as response:
                assert json.load(response)["tokens"] > 0
            with asked(f"{found[0]}v1/models") as response:
                assert [each["id"] for each in json.load(response)["data"]] == ["shop"]
        finally:
            program.terminate()
    assert program.returncode == 0


def test_a_server_whose_mcp_server_can_not_be_started_says_so_and_ends(tmp_path: Path) -> None:
    pytest.importorskip("mcp", reason="mcp is not installed (extra mcp)")
    agent = '[[agents]]\nname = "a"\nmodel = "tiny"\n[[agents.mcp]]\ncommand = ["no-such-program"]'
    path = written(tmp_path, agent)
    command = [sys.executable, "-m", "rxllm", "serve", "--config", str(path), "--port", "0"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "can't connect to the MCP server no-such-program" in line
