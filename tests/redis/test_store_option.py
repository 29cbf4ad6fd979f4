"""`rxllm serve --store`, and the store in a configuration file."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from rxllm.command_line import main
from rxllm.command_line._serve import _store
from rxllm.operators import StreamRegistry
from rxllm.redis import RedisStreams
from rxllm.server import Limits
from rxllm.server.config import read_config

PAGE = Path(__file__).parents[2] / "rxllm" / "server" / "SCALING.md"
URL = "redis://127.0.0.1:1/0"
TABLE = f"""
[server.store]
url = "{URL}"
name = "mine"
lease = 5
flush = 0.1
"""


def store_of(tmp_path: Path, text: str, url: str | None = None) -> RedisStreams:
    path = tmp_path / "rxllm.toml"
    path.write_text(text, encoding="utf-8")
    made = _store(read_config(path).server.store, url, 64)
    assert made is not None
    store = made(StreamRegistry(), Limits())
    assert isinstance(store, RedisStreams)
    return store


@pytest.mark.parametrize(
    ("text", "url", "expected"),
    [
        ("", URL, ("127.0.0.1:1", "rx:{streams}:node:n", 3.0, 0.05)),
        (f'[server]\nstore = "{URL}"', None, ("127.0.0.1:1", "rx:{streams}:node:n", 3.0, 0.05)),
        (f'[server]\nstore = "{URL}"', "redis://h:2", ("h:2", "rx:{streams}:node:n", 3.0, 0.05)),
        (TABLE, None, ("127.0.0.1:1", "rx:{mine}:node:n", 5.0, 0.1)),
        (TABLE, "redis://h:2", ("h:2", "rx:{mine}:node:n", 5.0, 0.1)),
    ],
)
def test_the_command_line_comes_before_the_file(
    tmp_path: Path, text: str, url: str | None, expected: Any
) -> None:
    store = store_of(tmp_path, text, url)
    address = store._connections.address
    assert (address, store.keys.lease("n"), store.lease, store.flush) == expected


def test_without_one_streams_are_in_memory() -> None:
    assert _store(None, None, 64) is None


def test_the_table_of_the_page_has_the_defaults(tmp_path: Path) -> None:
    [table] = re.findall(r"```toml\n(\[server\.store\].+?)```", PAGE.read_text("utf-8"), re.DOTALL)
    store, plain = store_of(tmp_path, table), store_of(tmp_path, "", "redis://127.0.0.1:6379/0")
    for each in (store, plain):
        found = (each._connections.address, each.keys.listing, each.lease, each.flush)
        assert found == ("127.0.0.1:6379", plain.keys.listing, 3.0, 0.05)


@pytest.mark.parametrize(
    ("text", "url", "words"),
    [
        ("", "http://:sesame@nowhere", "the store: Redis URL must specify"),
        ("", "", "the store: Redis URL must specify"),
        (TABLE, "", "the store: Redis URL must specify"),
        (TABLE.replace("5", "0"), None, "the store: lease"),
        (TABLE.replace("0.1", "-1.0"), None, "the store: flush"),
        (TABLE.replace("mine", "{}"), None, "the store: name"),
        (TABLE + "leases = 5", None, "rxllm.toml:7: server.store.leases"),
        ("[server.store]\nlease = 5", None, "rxllm.toml:1: server.store.url"),
    ],
)
def test_what_is_wrong_is_said_before_the_start(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, url: str | None, words: str
) -> None:
    path = tmp_path / "rxllm.toml"
    path.write_text(text, encoding="utf-8")
    arguments = ["serve", "--config", str(path), *([] if url is None else ["--store", url])]
    assert main(arguments) == 2
    said = capsys.readouterr().err
    assert words in said
    assert "sesame" not in said
