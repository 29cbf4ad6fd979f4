"""The checks of the arguments of operators."""

from functools import partial
from typing import Any

import pytest

from rxllm.arguments import check_callable, check_int, check_number, is_asynchronous


class IndexLike:
    """Another kind of integer, like NumPy's."""

    def __index__(self) -> int:
        return 3


async def asynchronous(_: object) -> None: ...


class Asynchronous:
    async def __call__(self, _: object) -> None: ...


def test_an_integer_is_returned() -> None:
    assert [check_int("size", each, "a size") for each in (1, 7, IndexLike())] == [1, 7, 3]
    assert check_int("keep", 0, "a count", minimum=0) == 0


@pytest.mark.parametrize("value", [True, 1.5, 2.0, float("nan"), "2", None, [1]])
def test_a_non_integer_is_rejected(value: Any) -> None:
    with pytest.raises(TypeError, match=r"size must be an integer \(a size\), got "):
        check_int("size", value, "a size")


@pytest.mark.parametrize(("value", "low"), [(0, 1), (-1, 0)])
def test_an_integer_below_the_minimum_is_rejected(value: int, low: int) -> None:
    with pytest.raises(ValueError, match=rf"size must be {low} or more \(a size\), got {value}"):
        check_int("size", value, "a size", minimum=low)


def test_a_number_is_returned_as_a_float() -> None:
    assert repr(check_number("seconds", 2, "a time", above=0)) == "2.0"
    assert check_number("seconds", 0, "a time", minimum=0) == 0
    assert check_number("factor", -1.5, "a factor") == -1.5
    assert check_number("seconds", float("inf"), "a time", above=0, allow_infinity=True) == float(
        "inf"
    )


@pytest.mark.parametrize("value", [True, "1", None, 1j])
def test_a_non_number_is_rejected(value: Any) -> None:
    with pytest.raises(TypeError, match=r"seconds must be a finite number \(a time\), got "):
        check_number("seconds", value, "a time", above=0)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 0, -1])
def test_nan_infinity_and_low_numbers_are_rejected(value: float) -> None:
    with pytest.raises(
        ValueError, match=rf"seconds must be a finite number above 0 \(a time\), got {value}"
    ):
        check_number("seconds", value, "a time", above=0)


@pytest.mark.parametrize("options", [{}, {"above": 0}, {"minimum": 0}])
def test_nan_is_always_rejected(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="seconds must be a number"):
        check_number("seconds", float("nan"), "a time", allow_infinity=True, **options)


def test_a_number_below_the_minimum_is_rejected() -> None:
    with pytest.raises(
        ValueError, match=r"seconds must be a finite number, 1 or more \(a time\), got 0\.5"
    ):
        check_number("seconds", 0.5, "a time", minimum=1)


def test_a_function_is_returned() -> None:
    assert check_callable("report", print, "a function") is print
    assert check_callable("report", asynchronous, "a function") is asynchronous


def test_non_callables_and_unawaited_coroutine_functions_are_rejected() -> None:
    with pytest.raises(TypeError, match="report must be a function, got 5"):
        check_callable("report", 5, "a function")  # type: ignore[type-var]
    with pytest.raises(TypeError, match=r"report must be a function, and .* use map_async"):
        check_callable("report", asynchronous, "a function", instead="use map_async")


def test_coroutine_functions_are_recognized_in_every_form() -> None:
    shapes = (asynchronous, partial(asynchronous, 1), Asynchronous(), Asynchronous().__call__)
    assert all(map(is_asynchronous, shapes))
    assert not any(map(is_asynchronous, (print, Asynchronous, partial(print), 5)))
