"""Requests, and the protocol of the models that answer them.

A `Request` is a value: it can be stored, changed with `msgspec.structs.replace`, sent again to
another model, or continued from a partial answer.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import (
    Any,
    Final,
    Literal,
    Protocol,
    TypeAlias,
    TypedDict,
    Unpack,
    get_args,
    runtime_checkable,
)

import msgspec

from rxllm.answer_schema import AnswerSchema, AnyAnswerSchema, GivenSchema
from rxllm.chunks import Chunk, ToolCall
from rxllm.errors import BadRequestError, UnsupportedError
from rxllm.messages import Message, ReasoningPart, Tool
from rxllm.stream import Stream

__all__ = [
    "SAMPLING_OPTIONS",
    "ContinuedBy",
    "Loadable",
    "Message",
    "Model",
    "ModelInfo",
    "Prompt",
    "ReasoningEffort",
    "Request",
    "RequestOptions",
    "Strategy",
    "Verbosity",
    "as_request",
    "as_request_to",
    "check_strategy",
    "last_words",
    "load_all",
    "streaming_pays",
]

SAMPLING_OPTIONS: Final = ("temperature", "top_p", "top_k")
"""The options that a model without the capability `"sampling"` doesn't take."""

ContinuedBy: TypeAlias = Literal["prefill", "prompt"]
"""How a model is asked to continue an answer; see `Request.continuing`."""

_CONTINUE: Final = (
    "Your answer was cut off. Continue it from there: begin by repeating its last words, exactly, "
    "and go on without a comment. Its last words are:\n\n{}"
)
_REPEATED: Final = 80
"""Characters of the last words that are repeated, at most."""

ReasoningEffort: TypeAlias = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]
"""How much to think. A model without `"xhigh"` or `"max"` thinks as much as it can."""

Verbosity: TypeAlias = Literal["low", "medium", "high"]

Strategy: TypeAlias = Literal["quality", "balanced", "speed", "cost"]


class Request(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A request to a model. `None` leaves an option to the model's default; 0 is a value.

    Args:
        messages: the conversation, oldest first. If the last one is an `assistant` message, the
            model continues it.
        max_tokens: the maximum length of the answer, in tokens, 1 or more.
        temperature: 0 (always the most likely token) to 2.
        top_p: sample from the most likely tokens that add up to this probability, above 0, at most
            1.
        top_k: sample from this many of the most likely tokens; 0 means all.
        min_p: drop tokens below this fraction of the most likely token's probability, 0 to 1.
        repeat_penalty: divide the odds of recently generated tokens by this, above 0; 1 means no
            penalty.
        stop: sequences at which the answer ends; they aren't part of it.
        seed: makes sampling repeatable, 0 or more.
        frequency_penalty, presence_penalty: make tokens less likely the more often they have been
            generated, or once they have, -2 to 2.
        logit_bias: added to the logits of tokens, by token id, -100 to 100.
        response_format: `"json"`, a JSON Schema that the answer must follow, or the `AnswerSchema`
            of a type.
        confidence: request the probability of each token.
        top_logprobs: request that many of the likeliest tokens at each position, 0 to 20.
        reasoning: how much to think before the answer. `max_tokens` includes it.
        verbosity: how long the answer should be.
        tools: the tools that the model may ask to be called.
        tool_choice: `"auto"`, `"none"`, `"required"` (at least one), or the name of the tool that
            must be called.
        parallel_tool_calls: whether one answer may have several tool calls.
        strategy: how a router chooses among its models; of any other model an error.
        cache: ask the provider to keep the prompt for requests that begin alike; a string names
            them, so that they reach the same cache. A hint: providers that always do, or never, get
            the same request.
        extra: options passed unchanged to the engine or the provider.
    """

    messages: tuple[Message, ...]
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    repeat_penalty: float | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    logit_bias: dict[str, float] | None = None
    stop: tuple[str, ...] = ()
    seed: int | None = None
    response_format: Literal["json"] | dict[str, Any] | None = None
    confidence: bool = False
    top_logprobs: int | None = None
    reasoning: ReasoningEffort | None = None
    verbosity: Verbosity | None = None
    tools: tuple[Tool, ...] = ()
    tool_choice: str | None = None
    parallel_tool_calls: bool | None = None
    strategy: Strategy | None = None
    cache: bool | str = False
    extra: dict[str, Any] = {}

    @property
    def answer_schema(self) -> AnyAnswerSchema | None:
        """What reads the answer as `Result.value`; `None` without a `response_format`."""
        asked = self.response_format
        if asked is None or isinstance(asked, AnswerSchema):
            return asked
        return GivenSchema(asked)

    def continuing(self, partial: str, *, by: ContinuedBy = "prefill") -> Request:
        """Return this request with `partial` as the beginning of the answer to continue.

        Args:
            partial: the beginning of the answer; an empty one changes nothing.
            by: `"prefill"` to end the conversation with it, so that the model goes on with its next
                words. Not all models support that: `"prompt"` adds a message of the user that asks
                to repeat the last words and to go on. The operators that continue an answer remove
                what is repeated.

        >>> request = as_request("A tale").continuing("Once upon a", by="prompt")
        >>> [message.role for message in request.messages]
        ['user', 'assistant', 'user']
        """
        if not partial:
            return self
        continued = self._prefilled(partial)
        if by == "prefill":
            return continued
        asked = Message("user", _CONTINUE.format(last_words(partial)))
        return msgspec.structs.replace(continued, messages=(*continued.messages, asked))

    def _prefilled(self, partial: str) -> Request:
        *earlier, last = self.messages
        if last.role == "assistant":
            return msgspec.structs.replace(self, messages=(*earlier, last.followed_by(partial)))
        begun = Message("assistant", partial)
        return msgspec.structs.replace(self, messages=(*self.messages, begun))


def last_words(text: str) -> str:
    """Return the last line or its last words, which `continuing` asks to repeat.

    >>> last_words("Items:\\n  - first item\\n")
    '- first item'
    """
    line = text.rstrip().rpartition("\n")[2].strip()
    words = line[-_REPEATED:]
    return words if words == line else words.partition(" ")[2].strip() or words


class RequestOptions(TypedDict, total=False):
    """The options of `Model.stream`: the fields of `Request` without the messages.

    `response_format` may also be a type: see `as_request`.
    """

    max_tokens: int | None
    temperature: float | None
    top_p: float | None
    top_k: int | None
    min_p: float | None
    repeat_penalty: float | None
    frequency_penalty: float | None
    presence_penalty: float | None
    logit_bias: dict[str, float] | None
    stop: str | Sequence[str]
    seed: int | None
    response_format: Any
    confidence: bool
    top_logprobs: int | None
    reasoning: ReasoningEffort | None
    verbosity: Verbosity | None
    tools: Sequence[Tool | Mapping[str, Any]]
    tool_choice: str | None
    parallel_tool_calls: bool | None
    strategy: Strategy | None
    cache: bool | str
    extra: dict[str, Any]


Prompt: TypeAlias = str | Request | Sequence[Message | Mapping[str, Any]]


class ModelInfo(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """What is known about a model before it is loaded.

    Args:
        id: `provider/name`.
        provider: the provider.
        context_length: tokens of prompt and answer.
        capabilities: what it can do: `"text"`, `"tools"`, `"images"`, `"reasoning"`, `"prefill"`
            (continues a last assistant message), `"sampling"` (takes `temperature`, `top_p` and
            `top_k`), `"json"`, `"json_schema"`, `"grammar"`, `"seed"`, `"confidence"`. Of a remote
            model that isn't in the table of models, this is what its API can do. None at all means
            that nothing is known.
        description: a few words.
        max_output_tokens: tokens of an answer.
        size: bytes of a local model's files, if they exist.
        type: `"gguf"` or `"onnx"` of a local model.
    """

    id: str
    provider: str
    context_length: int | None = None
    capabilities: tuple[str, ...] = ()
    description: str = ""
    max_output_tokens: int | None = None
    size: int | None = None
    type: str | None = None

    def supports(self, capability: str) -> bool:
        """Return whether the model has a capability, or nothing is known about it."""
        return capability in self.capabilities or not self.capabilities


@runtime_checkable
class Model(Protocol):
    """Anything that answers prompts with streams."""

    @property
    def info(self) -> ModelInfo:
        """What is known about this model without loading it."""
        ...

    def stream(self, prompt: Prompt, **options: Unpack[RequestOptions]) -> Stream[Chunk]:
        """Return a cold stream of the answer: nothing happens until it is subscribed to.

        The stream has the `answer_schema` of the request.

        Args:
            prompt: a string, messages, or a complete request.
            options: the fields of `Request`.

        Raises:
            BadRequestError: the prompt or an option is invalid.
        """
        ...


@runtime_checkable
class Loadable(Protocol):
    """A model that can be loaded before its first stream."""

    async def load(self) -> None:
        """Load it now. Idempotent."""
        ...


async def load_all(models: Iterable[Model]) -> None:
    """Load those of the models that can be loaded, all at once.

    Raises:
        ModelLoadError: one of them can't be.
    """
    await asyncio.gather(*[each.load() for each in models if isinstance(each, Loadable)])


def as_request(prompt: Prompt, **options: Unpack[RequestOptions]) -> Request:
    """Make a validated `Request` from the arguments of `Model.stream`.

    Args:
        prompt: a string (one user message), a sequence of messages (`Message` or mappings with
            `role` and `content`), or a `Request`, whose options apply where none is given here.
        options: fields of `Request`. `stop` may be a single string. `response_format` may be a type
            that msgspec can decode, or a model class of pydantic, of which `Result.value` is then
            an instance: see `AnswerSchema`.

    Raises:
        BadRequestError: an unknown option, a value out of range, no messages, or an empty prompt.

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
    asked = fields.get("response_format")
    if isinstance(asked, Mapping) and asked.get("type") in ("json_schema", "json_object"):
        words = 'response_format must be a JSON Schema itself, a type or "json"'
        raise BadRequestError(f"{words}, got OpenAI's form {asked!r}", "response_format")
    if not isinstance(asked, str | Mapping | None):
        asked = fields["response_format"] = AnswerSchema(asked)
    if isinstance(strategy := fields.get("strategy"), str):
        check_strategy(strategy)
    try:
        request = msgspec.convert(fields, Request, from_attributes=True)
    except msgspec.ValidationError as error:
        found = re.search(r"\$\.(\w+)", str(error))
        field = None if found is None else found[1]
        raise BadRequestError(f"invalid request: {error}", field) from None
    if isinstance(asked, AnswerSchema):  # `convert` has made a plain dictionary of it
        request = msgspec.structs.replace(request, response_format=asked)
    _check(request)
    return request


def as_request_to(model: str, prompt: Prompt, **options: Unpack[RequestOptions]) -> Request:
    """Make the request to a model that doesn't choose among others; see `as_request`.

    Raises:
        UnsupportedError: it has a strategy.
    """
    request = as_request(prompt, **options)
    if request.strategy is not None:
        raise UnsupportedError(
            f"{model} doesn't support strategy: put several models in an rxllm.Router", "strategy"
        )
    return request


def check_strategy(name: str) -> None:
    """Check the name of a strategy.

    >>> check_strategy("speed-priority")
    Traceback (most recent call last):
        ...
    rxllm.errors.BadRequestError: unknown strategy 'speed-priority': did you mean 'speed'?
    """
    known: tuple[str, ...] = get_args(Strategy)
    if name in known:
        return
    words = re.split(r"[-_ ]", name.lower())
    near = next((each for each in known if each in words), None)
    hint = f"choose from {', '.join(known)}" if near is None else f"did you mean {near!r}?"
    raise BadRequestError(f"unknown strategy {name!r}: {hint}", "strategy")


def _messages(prompt: object) -> list[Message]:
    if isinstance(prompt, str):
        if not prompt.strip():
            raise BadRequestError("the prompt is empty", "messages")
        return [Message("user", prompt)]
    if not isinstance(prompt, Sequence) or isinstance(prompt, bytes):
        raise BadRequestError(
            "the prompt must be a string, a sequence of messages or a Request, "
            f"got {type(prompt).__name__}",
            "messages",
        )
    try:
        return msgspec.convert(list(prompt), list[Message], from_attributes=True)
    except msgspec.ValidationError as error:
        raise BadRequestError(f"invalid message: {error}", "messages") from None


def _nearest(name: str) -> str:
    near = get_close_matches(name, Request.__struct_fields__, n=1)
    return f": did you mean {near[0]!r}?" if near else ""


_RANGES: dict[str, tuple[str, float, float]] = {
    "max_tokens": ("1 or more", 1, float("inf")),
    "temperature": ("between 0 and 2", 0, 2),
    "top_k": ("0 or more", 0, float("inf")),
    "min_p": ("between 0 and 1", 0, 1),
    "frequency_penalty": ("between -2 and 2", -2, 2),
    "presence_penalty": ("between -2 and 2", -2, 2),
    "top_logprobs": ("between 0 and 20", 0, 20),
    "seed": ("0 or more", 0, 2**63 - 1),
}


def _check(request: Request) -> None:
    if not request.messages:
        raise BadRequestError("the request has no messages", "messages")
    for name, (words, low, high) in _RANGES.items():
        value = getattr(request, name)
        if value is not None and not low <= value <= high:
            raise BadRequestError(f"{name} must be {words}, got {value}", name)
    if request.top_p is not None and not 0 < request.top_p <= 1:
        raise BadRequestError(f"top_p must be above 0, at most 1, got {request.top_p}", "top_p")
    if request.repeat_penalty is not None and not 0 < request.repeat_penalty < float("inf"):
        words = f"repeat_penalty must be a finite number above 0, got {request.repeat_penalty}"
        raise BadRequestError(words, "repeat_penalty")
    for token, bias in (request.logit_bias or {}).items():
        if not (token.isdecimal() and -100 <= bias <= 100):
            words = f"logit_bias must map token ids to -100 to 100, got {token!r}: {bias}"
            raise BadRequestError(words, "logit_bias")
    for message in request.messages:
        if message.tool_call_id is not None and message.role != "tool":
            words = f"only a tool message may have a tool_call_id, got one of role {message.role}"
            raise BadRequestError(words, "messages")
        if message.role != "assistant" and any(
            isinstance(part, ReasoningPart | ToolCall) for part in message.parts
        ):
            words = (
                f"only an assistant message may have reasoning or tool calls, got {message.role}"
            )
            raise BadRequestError(words, "messages")
        try:
            message.text.encode()
        except UnicodeEncodeError:
            raise BadRequestError(
                "a message contains a lone surrogate, which UTF-8 can't encode", "messages"
            ) from None
    if not all(request.stop):
        raise BadRequestError("stop sequences must not be empty", "stop")
    _check_tools(request)


def _check_tools(request: Request) -> None:
    names = [tool.name for tool in request.tools]
    if len(set(names)) < len(names):
        raise BadRequestError(f"tool names must be unique, got {sorted(names)}", "tools")
    choice = request.tool_choice
    if choice is not None and not names:
        raise BadRequestError("tool_choice is set, but there are no tools", "tool_choice")
    if choice is not None and choice not in {"auto", "none", "required", *names}:
        raise BadRequestError(
            f"tool_choice must be auto, none, required or the name of a tool, got {choice!r}",
            "tool_choice",
        )


def streaming_pays(expected_tokens: int, *, threshold: int = 100) -> bool:
    """Return whether an answer of this length is worth streaming; advice only.

    The default comes from how long readers wait: most models generate a hundred tokens, about
    seventy words, within the two seconds that a reader waits without noticing. Longer answers are
    better shown while they arrive.

    Args:
        expected_tokens: the expected length of the answer, in tokens.
        threshold: the length, in tokens, above which streaming pays.

    >>> streaming_pays(100), streaming_pays(101)
    (False, True)
    """
    if expected_tokens < 0:
        raise BadRequestError(f"expected_tokens must be 0 or more, got {expected_tokens}")
    return expected_tokens > threshold
