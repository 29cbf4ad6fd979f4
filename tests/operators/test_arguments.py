"""The checks of what operators are given (a foundation)."""

from functools import partial
from typing import Any

import pytest

from rxllm.operators._arguments import function, is_asynchronous, number, whole


class Whole:
    """Another kind of whole number, as NumPy has."""

    def __index__(self) -> int:
        return 3


async def asynchronous(_: object) -> None: ...


class Asynchronous:
    async def __call__(self, _: object) -> None: ...


def test_a_whole_number_is_given_back() -> None:
    assert [whole("size", each, "a size") for each in (1, 7, Whole())] == [1, 7, 3]
    assert whole("keep", 0, "a count", least=0) == 0


@pytest.mark.parametrize("value", [True, 1.5, 2.0, float("nan"), "2", None, [1]])
def test_what_is_no_whole_number_is_refused(value: Any) -> None:
    with pytest.raises(TypeError, match="size is a size, a whole number, not "):
        whole("size", value, "a size")


@pytest.mark.parametrize(("value", "least"), [(0, 1), (-1, 0)])
def test_a_whole_number_that_is_too_low_is_refused(value: int, least: int) -> None:
    with pytest.raises(ValueError, match=f"size is a size, {least} or more: {value}"):
        whole("size", value, "a size", least=least)


def test_a_number_is_given_back_as_a_float() -> None:
    assert repr(number("seconds", 2, "a time", above=0)) == "2.0"
    assert number("seconds", 0, "a time", least=0) == 0
    assert number("factor", -1.5, "a factor") == -1.5
    assert number("seconds", float("inf"), "a time", above=0, endless=True) == float("inf")


@pytest.mark.parametrize("value", [True, "1", None, 1j])
def test_what_is_no_number_is_refused(value: Any) -> None:
    with pytest.raises(TypeError, match="seconds is a time, a finite number, not "):
        number("seconds", value, "a time", above=0)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 0, -1])
def test_a_number_that_is_none_or_too_low_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match=f"seconds is a time, a finite number above 0: {value}"):
        number("seconds", value, "a time", above=0)


@pytest.mark.parametrize("options", [{}, {"above": 0}, {"least": 0}])
def test_nan_is_never_a_number(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="seconds is a time, a number"):
        number("seconds", float("nan"), "a time", endless=True, **options)


def test_what_is_below_the_least_is_refused() -> None:
    with pytest.raises(ValueError, match=r"seconds is a time, a finite number, 1 or more: 0\.5"):
        number("seconds", 0.5, "a time", least=1)


def test_a_function_is_given_back() -> None:
    assert function("report", print, "a function") is print
    assert function("report", asynchronous, "a function") is asynchronous


def test_what_can_not_be_called_or_awaited_is_refused() -> None:
    with pytest.raises(TypeError, match="report is a function, not 5"):
        function("report", 5, "a function")  # type: ignore[type-var]
    with pytest.raises(TypeError, match=r"report is a function, and .* use map_async"):
        function("report", asynchronous, "a function", instead="use map_async")


def test_asynchronous_are_coroutine_functions_in_all_their_shapes() -> None:
    shapes = (asynchronous, partial(asynchronous, 1), Asynchronous(), Asynchronous().__call__)
    assert all(map(is_asynchronous, shapes))
    assert not any(map(is_asynchronous, (print, Asynchronous, partial(print), 5)))
