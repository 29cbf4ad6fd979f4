"""Settings: the numbers of a program in one validated value."""

from typing import Any

import msgspec
import pytest

from rxllm import operators as ops
from rxllm.settings import Settings
from rxllm.testing import Marbles


def test_the_defaults() -> None:
    settings = Settings()
    assert settings.timeouts == {"first": 10, "between": 5, "total": 30}
    assert (settings.connect, settings.attempts, settings.buffer_size) == (10, 3, 1024)
    assert settings.batch == {"size": 10, "seconds": 0.1}
    assert settings.local_pool == {"limit": 3, "queue": 100, "wait": 30}
    assert settings.remote_pool == {"limit": 10, "queue": 100, "wait": 30}


def test_operators_take_a_group_as_their_arguments() -> None:
    settings = Settings(batch_size=2, batch_seconds=9, local_streams=1, queue=0)
    marbles, pool = Marbles(), ops.Pool(**settings.local_pool)
    packed = marbles.cold("a-b-c|").pipe(ops.batch(**settings.batch), ops.limit_concurrency(pool))
    assert [getattr(event, "text", event) for _, event in marbles.run(packed)][:2] == ["ab", "c"]
    assert (pool.limit, pool.queue, pool.wait) == (1, 0, 30)


def test_settings_can_be_replaced_and_decoded() -> None:
    assert msgspec.structs.replace(Settings(), total=60).timeouts["total"] == 60
    assert msgspec.json.decode(b'{"total": 60, "queue": 0}', type=Settings).queue == 0
    with pytest.raises(msgspec.ValidationError, match="totl"):
        msgspec.toml.decode("totl = 60", type=Settings)
    with pytest.raises(msgspec.ValidationError, match="total must be a number of seconds above 0"):
        msgspec.json.decode(b'{"total": -1}', type=Settings)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("batch_size", 0),
        ("batch_size", 1.5),
        ("local_streams", True),
        ("queue", -1),
        ("total", 0),
        ("connect", float("nan")),
        ("between_tokens", float("inf")),
        ("first_token", "10"),
        ("shutdown", -0.5),
    ],
)
def test_a_value_out_of_range_is_rejected_by_name(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=name):
        Settings(**{name: value})


def test_queue_and_shutdown_may_be_zero() -> None:
    assert Settings(queue=0, shutdown=0).remote_pool["queue"] == 0
