"""What is asked, and of whom: messages, requests, and the protocol of a model.

A `Request` is a value: it can be kept, changed with `msgspec.structs.replace`, sent again to
another model, or continued from a partial answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any, Literal, Protocol, TypeAlias, TypedDict, Unpack, runtime_checkable

import msgspec

from rxllm.chunks import Chunk
from rxllm.errors import BadRequestError
from rxllm.messages import Message, Tool
from rxllm.stream import Stream

__all__ = [
    "Message",
    "Model",
    "ModelInfo",
    "Prompt",
    "Request",
    "RequestOptions",
    "Strategy",
    "as_request",
    "streaming_pays",
]

Strategy: TypeAlias = Literal["quality", "balanced", "speed", "cost"]


class Request(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a model is asked. An option left at None is the model's to choose; 0 is a value.

    Args:
        messages: the conversation, oldest first. Ends with an `assistant` message if the model
            shall go on from there.
        max_tokens: the length of the answer at most, in tokens, 1 or more.
        temperature: 0 (always the likeliest token) to 2.
        top_p: keep the likeliest tokens that add up to this probability, above 0 to 1.
        top_k: keep that many of the likeliest tokens; 0 keeps all.
        min_p: keep tokens at least this fraction as likely as the likeliest, 0 to 1.
        repeat_penalty: divide the odds of tokens said of late by this, above 0; 1 is none.
        stop: sequences at which the answer ends; they are no part of it.
        seed: makes sampling repeatable, 0 or more.
        response_format: `"json"`, or a JSON Schema that the answer has to follow.
        confidence: ask for the probability of each token.
        tools: what the model may ask to be called.
        tool_choice: `"auto"`, `"none"`, `"required"` (one or more), or the name of the tool that
            has to be called.
        strategy: how a router chooses among its models.
        extra: options passed on to the engine or the provider as they are.
    """

    messages: tuple[Message, ...]
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    repeat_penalty: float | None = None
    stop: tuple[str, ...] = ()
    seed: int | None = None
    response_format: Literal["json"] | dict[str, Any] | None = None
    confidence: bool = False
    tools: tuple[Tool, ...] = ()
    tool_choice: str | None = None
    strategy: Strategy | None = None
    extra: dict[str, Any] = {}

    def continuing(self, partial: str) -> Request:
        """This request, with `partial` as the beginning of the answer that is to be gone on with.

        An empty `partial` changes nothing.
        """
        if not partial:
            return self
        *earlier, last = self.messages
        if last.role == "assistant":
            return msgspec.structs.replace(self, messages=(*earlier, last.followed_by(partial)))
        begun = Message("assistant", partial)
        return msgspec.structs.replace(self, messages=(*self.messages, begun))


class RequestOptions(TypedDict, total=False):
    """The options that `Model.stream` takes: the fields of `Request` without the messages."""

    max_tokens: int | None
    temperature: float | None
    top_p: float | None
    top_k: int | None
    min_p: float | None
    repeat_penalty: float | None
    stop: str | Sequence[str]
    seed: int | None
    response_format: Literal["json"] | dict[str, Any] | None
    confidence: bool
    tools: Sequence[Tool | Mapping[str, Any]]
    tool_choice: str | None
    strategy: Strategy | None
    extra: dict[str, Any]


Prompt: TypeAlias = str | Request | Sequence[Message | Mapping[str, Any]]


class ModelInfo(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """What is known of a model before it is loaded. `context_length` is in tokens."""

    id: str
    provider: str
    context_length: int | None = None
    capabilities: tuple[str, ...] = ()
    description: str = ""


@runtime_checkable
class Model(Protocol):
    """Anything that answers prompts with streams."""

    @property
    def info(self) -> ModelInfo:
        """What is known of this model, without loading it."""
        ...

    def stream(self, prompt: Prompt, **options: Unpack[RequestOptions]) -> Stream[Chunk]:
        """A cold stream of the answer: nothing happens before it is subscribed to.

        Args:
            prompt: a text, messages, or a whole request.
            options: the fields of `Request`.

        Raises:
            BadRequestError: the prompt or an option can't be right.
        """
        ...


def as_request(prompt: Prompt, **options: Unpack[RequestOptions]) -> Request:
    """Make a checked `Request` of what a user passed to `Model.stream`.

    Args:
        prompt: a text (one user message), a sequence of messages (`Message` or mappings with
            `role` and `content`), or a `Request`, whose options then count where none is given.
        options: fields of `Request`. `stop` may be one string.

    Raises:
        BadRequestError: an unknown option, a value out of range, no message, or an empty prompt.

    >>> as_request("Hi", temperature=0).temperature
    0.0
    >>> as_request("Hi", temprature=0)
    Traceback (most recent call last):
        ...
    rxllm.errors.BadRequestError: unknown option 'temprature': did you mean 'temperature'?
    """
    for name in options:
        if name not in Request.__struct_fields__:
            raise BadRequestError(f"unknown option {name!r}{_nearest(name)}")
    stop = options.get("stop")
    if isinstance(stop, str):
        options["stop"] = (stop,)
    if isinstance(prompt, Request):
        fields = msgspec.structs.asdict(prompt) | options
    else:
        fields = {"messages": _messages(prompt), **options}
    try:
        request = msgspec.convert(fields, Request, from_attributes=True)
    except msgspec.ValidationError as error:
        raise BadRequestError(f"a request can't be made of this: {error}") from None
    _check(request)
    return request


def _messages(prompt: object) -> list[Message]:
    if isinstance(prompt, str):
        if not prompt.strip():
            raise BadRequestError("the prompt is empty", "messages")
        return [Message("user", prompt)]
    if not isinstance(prompt, Sequence) or isinstance(prompt, bytes):
        raise BadRequestError(
            f"a prompt is a text, a sequence of messages or a Request, not {type(prompt).__name__}",
            "messages",
        )
    try:
        return msgspec.convert(list(prompt), list[Message], from_attributes=True)
    except msgspec.ValidationError as error:
        raise BadRequestError(f"a message is not right: {error}", "messages") from None


def _nearest(name: str) -> str:
    near = get_close_matches(name, Request.__struct_fields__, n=1)
    return f": did you mean {near[0]!r}?" if near else ""


_RANGES: dict[str, tuple[str, float, float]] = {
    "max_tokens": ("1 or more", 1, float("inf")),
    "temperature": ("0 to 2", 0, 2),
    "top_k": ("0 or more", 0, float("inf")),
    "min_p": ("0 to 1", 0, 1),
    "seed": ("0 or more", 0, 2**63 - 1),
}


def _check(request: Request) -> None:
    if not request.messages:
        raise BadRequestError("there is no message in the request", "messages")
    for name, (words, low, high) in _RANGES.items():
        value = getattr(request, name)
        if value is not None and not low <= value <= high:
            raise BadRequestError(f"{name} is {words}, not {value}", name)
    if request.top_p is not None and not 0 < request.top_p <= 1:
        raise BadRequestError(f"top_p is above 0, and 1 at most, not {request.top_p}", "top_p")
    if request.repeat_penalty is not None and not 0 < request.repeat_penalty < float("inf"):
        words = f"repeat_penalty is above 0, not {request.repeat_penalty}"
        raise BadRequestError(words, "repeat_penalty")
    for message in request.messages:
        if message.tool_call_id is not None and message.role != "tool":
            words = f"a {message.role} message answers no tool call"
            raise BadRequestError(words, "messages")
        try:
            message.text.encode()
        except UnicodeEncodeError:
            raise BadRequestError(
                "a message holds half of a surrogate pair: it is no text", "messages"
            ) from None
    if not all(request.stop):
        raise BadRequestError("a stop sequence is empty", "stop")
    _check_tools(request)


def _check_tools(request: Request) -> None:
    names = [tool.name for tool in request.tools]
    if len(set(names)) < len(names):
        raise BadRequestError(f"two tools have one name: {sorted(names)}", "tools")
    choice = request.tool_choice
    if choice is not None and not names:
        raise BadRequestError("there is a tool_choice, and no tools", "tool_choice")
    if choice is not None and choice not in {"auto", "none", "required", *names}:
        raise BadRequestError(
            f"tool_choice is auto, none, required, or the name of one of the tools, not {choice!r}",
            "tool_choice",
        )


def streaming_pays(expected_tokens: int, *, threshold: int = 100) -> bool:
    """Advice: is an answer of this length worth streaming, or is it as well read in one piece?

    The default comes from patience: most models write a hundred tokens, some seventy words, within
    the two seconds that a reader waits without wondering. Longer answers are better seen coming.

    Args:
        expected_tokens: the expected length of the answer, in tokens.
        threshold: the length in tokens above which streaming pays.

    >>> streaming_pays(100), streaming_pays(101)
    (False, True)
    """
    if expected_tokens < 0:
        raise BadRequestError(f"expected_tokens is 0 or more, not {expected_tokens}")
    return expected_tokens > threshold
