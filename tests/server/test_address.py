"""The address of a server among those that share a store."""

from __future__ import annotations

import os
import socket

import pytest

from rxllm.errors import BadRequestError
from rxllm.server.address import ServerAddress
from rxllm.server.app_keys import ADDRESS
from tests.server.serving import scripted


def test_an_address_that_is_given_stays() -> None:
    address = ServerAddress("https://one.example.org/")
    address.listen_on("127.0.0.1", 8080)
    assert address.value == "https://one.example.org/"


def test_without_one_it_is_where_the_server_listens() -> None:
    address = ServerAddress()
    assert address.value == f"{socket.gethostname()}:{os.getpid()}"
    address.listen_on("10.0.0.7", 8080)
    assert address.value == "http://10.0.0.7:8080/"
    address.listen_on("fd00::7", 8080)
    assert address.value == "http://[fd00::7]:8080/"


@pytest.mark.parametrize("everywhere", ["0.0.0.0", "::"])  # noqa: S104 - nothing listens
def test_a_server_that_listens_everywhere_is_named_after_its_machine(everywhere: str) -> None:
    address = ServerAddress()
    address.listen_on(everywhere, 8080)
    assert address.value == f"http://{socket.gethostname()}:8080/"


def test_an_application_has_the_address_that_it_is_given() -> None:
    assert scripted(address="https://one.example.org/")[ADDRESS].value == "https://one.example.org/"


@pytest.mark.parametrize("wrong", ["", " ", 8080])
def test_an_address_that_is_empty_or_not_text_is_refused(wrong: object) -> None:
    with pytest.raises(BadRequestError, match="address must be the URL of this server"):
        scripted(address=wrong)
