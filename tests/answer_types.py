"""Types of answers, as users would write them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, TypedDict

import msgspec
import pydantic
from msgspec import Meta

__all__ = ["Bird", "Cat", "Circle", "Dog", "Fish", "Owner", "Square", "Tree"]


class Cat(msgspec.Struct):
    """A cat of the house."""

    name: Annotated[str, Meta(description="as it is called")]
    age: Annotated[int, Meta(ge=0, le=30)] = 1


@dataclass
class Dog:
    """A dog."""

    name: str
    owner: Annotated[Owner, Meta(description="who feeds it")] | None = None


@dataclass
class Owner:
    """A person."""

    name: str


class Fish(TypedDict, total=False):
    """A fish."""

    color: str


class Circle(msgspec.Struct, tag=True):
    """A circle."""

    radius: float


class Square(msgspec.Struct, tag=True):
    """A square."""

    side: float


class Tree(msgspec.Struct):
    """A node."""

    value: int
    children: list[Tree] = []


class Bird(pydantic.BaseModel):
    """A bird."""

    name: str = pydantic.Field(description="as it is called", min_length=1)
    chicks: list[Bird] = []
