"""The configuration file: what it may have, and errors with their lines."""

from __future__ import annotations

from pathlib import Path

import pytest

from rxllm.errors import BadRequestError
from rxllm.router.router import Router
from rxllm.server import Persona, RoomSettings
from rxllm.server.config import Config, read_config
from rxllm.server.served_models import served_models

WHOLE = """
[server]
host = "0.0.0.0"
port = 9000
names = ["llm.example.org"]
log_format = "json"

[models]
story = "scripted/Once upon a time"

[models.big]
model = "openai/gpt-5"
base_url = "http://127.0.0.1:1/v1"
api_key_env = "RXLLM_TEST_KEY"

[routers.best]
models = ["big", "story"]
strategy = "cost"

[routers.best.prices."openai/gpt-5"]
input = 1.0
output = 2.0

[limits]
streams = 50

[settings]
attempts = 2

[[keys]]
name = "ada"
key_env = "ADA_KEY"
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "rxllm.toml"
    path.write_text(text)
    return path


def test_the_file_in_the_readme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "SHOP_KEY", "OPERATIONS_KEY", "GROQ_API_KEY"):
        monkeypatch.setenv(name, f"the-{name}")
    readme = Path("rxllm/server/README.md").read_text(encoding="utf-8")
    text = readme.partition("```toml\n")[2].partition("```")[0]
    config = read_config(written(tmp_path, text))
    models = served_models(config, [], {}, None, 10.0)
    assert list(models or ()) == ["tiny", "small", "large", "best"]
    assert [key.secret for key in config.keys] == ["the-SHOP_KEY", "the-OPERATIONS_KEY"]


def test_a_whole_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RXLLM_TEST_KEY", "k")
    config = read_config(written(tmp_path, WHOLE))
    assert (config.server.host, config.server.port) == ("0.0.0.0", 9000)  # noqa: S104 - as given
    assert (config.limits.streams, config.settings, config.keys[0].name) == (
        50,
        {"attempts": 2},
        "ada",
    )
    models = served_models(config, ["scripted/Hi"], {"both": ["story", "tiny"]}, None, 10.0)
    assert models is not None
    assert list(models) == ["scripted/Hi", "story", "big", "best", "both"]
    assert models["big"].info.id == "openai/gpt-5"
    assert isinstance(models["best"], Router)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[limits]\n\nstreams = -1", ":3: limits.streams: "),
        ('[limits]\nstreams = "x"', ":2: limits.streams: "),
        ('[server]\nport = "a"', ":2: server.port: "),
        ("[server]\nprt = 1", ":2: server.prt: "),
        ('[models.big]\nmodel = "openai/x"\nslots = "a"', ":3: models.*.slots: "),
        ('[[keys]]\nname = "a"\nkey = "b"\n[[keys]]\nkey = "c"', ":4: keys.1.name: "),
        ('[[keys]]\nname = "a"\n[[keys]]\nname = "b"\nadmin = 3', ":5: keys.1.admin: "),
        ("[settings]\nattempts = 0", ":2: settings.attempts: "),
        ("[settings]\ntries = 1", ":2: settings.tries: "),
        ('[routers.a]\nmodels = ["b"]\nstrategy = "best"', ":3: routers.*.strategy: "),
        ("x = [", "invalid TOML"),
        ("unknown = 1", ":1: unknown: "),
    ],
)
def test_what_is_wrong_is_named_with_its_line(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(BadRequestError) as raised:
        read_config(written(tmp_path, text))
    assert words in str(raised.value)
    assert str(raised.value).startswith(str(tmp_path / "rxllm.toml"))
    assert "\n" not in str(raised.value)


def test_a_file_that_can_not_be_read(tmp_path: Path) -> None:
    with pytest.raises(BadRequestError, match="No such file"):
        read_config(tmp_path / "none.toml")
    path = tmp_path / "latin.toml"
    path.write_bytes(b"x = '\xe9'")
    with pytest.raises(BadRequestError, match="UTF-8"):
        read_config(path)


def test_models_that_can_not_be_made(tmp_path: Path) -> None:
    for text, words in (
        ('[models]\na = "tinny"', "tinny"),
        ('[models]\na = "tiny"\n[routers.a]\nmodels = ["a"]', "two models"),
        ('[routers.a]\nmodels = ["nothing"]', "nothing"),
        ('[models.a]\nmodel = "openai/x"\napi_key_env = "RXLLM_NO_SUCH"', "RXLLM_NO_SUCH"),
    ):
        with pytest.raises(BadRequestError, match=words):
            served_models(read_config(written(tmp_path, text)), [], {}, None, 10.0)
    assert served_models(Config(), [], {}, None, 10.0) is None


def test_the_personas_of_the_chat_and_the_rooms(tmp_path: Path) -> None:
    text = """
[chat]
system = "Be brief."
max_tokens = 50

[rooms]
system = "Talk like a pirate."
temperature = 0.5
stop = ["THE END"]
messages = 3
"""
    config = read_config(written(tmp_path, text))
    assert config.chat == Persona(system="Be brief.", max_tokens=50)
    assert config.rooms == RoomSettings(
        system="Talk like a pirate.", temperature=0.5, stop=("THE END",), messages=3
    )
    with pytest.raises(BadRequestError, match=r":3: rooms.temperature: temperature must be"):
        read_config(written(tmp_path, "[rooms]\nmessages = 3\ntemperature = 3"))
