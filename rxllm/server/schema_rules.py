"""The rules of requests that the types of their classes don't state, as JSON Schema.

They are those that `Catalogue.request` and the `check` methods of the requests enforce. Rules that
compare values with each other, such as unique names of tools, can't be expressed.
"""

from __future__ import annotations

from typing import Any, Final, TypeAlias

from rxllm.server.limits import Limits
from rxllm.server.openai.unsupported import EMPTY

__all__ = ["OPTIONAL_POSITION", "POSITION", "WITH_MAX_TOKENS", "add_rules", "query_rules"]

_Schema: TypeAlias = dict[str, Any]

POSITION: Final[_Schema] = {"type": "integer", "minimum": 0, "maximum": 10**15 - 1}
"""A position in a stream."""

_SEED: Final[_Schema] = {"minimum": 0, "maximum": 2**63 - 1}
_PENALTY: Final[_Schema] = {"minimum": -2, "maximum": 2}
_TOP_P: Final[_Schema] = {"exclusiveMinimum": 0, "maximum": 1}
_FACTOR: Final[_Schema] = {"exclusiveMinimum": 0}
_NULL: Final[_Schema] = {"type": "null"}
_STRING: Final[_Schema] = {"type": "string"}
_OBJECT: Final[_Schema] = {"type": "object"}
_NOTHING: Final[_Schema] = {"enum": list(EMPTY)}
_SWITCHED_OFF: Final[_Schema] = {"enum": [None, 0]}
_BASE64: Final[_Schema] = {
    "pattern": "^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$"
}
_NOT_BLANK: Final[_Schema] = {"pattern": r"\S"}
_STREAM_ID: Final[_Schema] = {
    "minLength": 1,
    "maxLength": 100,
    "pattern": "^[!-.0-~](?:[ -.0-~]*[!-.0-~])?$",
}


def _option_rules(limits: Limits) -> dict[str, _Schema]:
    """Return the rules of options by their names, which most of the requests share."""
    length = {"minimum": 1, "maximum": limits.max_tokens}
    text = {"minLength": 1, "maxLength": limits.stop_characters}
    stop = {**text, "items": {"type": "string", **text}, "maxItems": limits.stop_sequences}
    return {
        "prompt": {**_NOT_BLANK, "maxLength": limits.prompt_characters},
        "id": _STREAM_ID,
        "messages": {"minItems": 1, "maxItems": limits.messages},
        **dict.fromkeys(("maxTokens", "max_tokens", "max_completion_tokens"), length),
        "max_output_tokens": length,
        "num_predict": {"maximum": limits.max_tokens, "not": {"const": 0}},
        "temperature": {"minimum": 0, "maximum": 2},
        "topP": _TOP_P,
        "top_p": _TOP_P,
        "top_k": {"minimum": 0},
        "min_p": {"minimum": 0, "maximum": 1},
        "seed": _SEED,
        **dict.fromkeys(("frequency_penalty", "presence_penalty"), _PENALTY),
        "top_logprobs": {"minimum": 0, "maximum": 20},
        "repeat_penalty": _FACTOR,
        "repetition_penalty": _FACTOR,
        **dict.fromkeys(("stop", "stop_sequences"), stop),
    }


def query_rules(limits: Limits) -> dict[str, _Schema]:
    """Return the rules of the options in a query, whose length the request line limits more."""
    text = {"type": "string", "minLength": 1}
    return {**_option_rules(limits), "prompt": _NOT_BLANK, "stop": {"items": text}}


def add_rules(schemas: dict[str, _Schema], limits: Limits) -> dict[str, _Schema]:
    """Return the schemas of the classes by name, with the rules of requests."""
    options = _option_rules(limits)
    ruled = dict(schemas)
    for name, names in _OPTIONS.items():
        rules = {each: options[each] for each in names.split()}
        ruled[name] = _with_rules(ruled[name], {"properties": rules})
    of_options = ruled["Options"]["properties"]
    nullable = {
        name: {"anyOf": [schema, _NULL]} if name == "stop" else schema
        for name, schema in of_options.items()
    }
    rules = {**_RULES, "UIChatRequest": _ui_request(nullable), "RunRequest": _run_request(nullable)}
    for name, rule in rules.items():
        ruled[name] = _with_rules(ruled[name], rule)
    return ruled


def _with_rules(schema: _Schema, rules: _Schema) -> _Schema:
    """Return a schema with further keywords; those of properties are added to the properties."""
    properties = dict(schema["properties"])
    for name, rule in rules.get("properties", {}).items():
        properties[name] = {**properties.get(name, {}), **rule}
    return {**schema, **rules, "properties": properties}


def _where(required: str = "", **properties: _Schema) -> _Schema:
    """Return a schema for an object: what its properties must be, and which it must have."""
    schema: _Schema = {"properties": properties}
    return {**schema, "required": required.split()} if required else schema


def _kind(kind: str, **required: _Schema) -> _Schema:
    """Return a schema for an object of a `type`, with the properties that it must have."""
    return _where(" ".join(("type", *required)), type={"const": kind}, **required)


def _not_kinds(*kinds: str) -> _Schema:
    """Return a schema for a list of objects none of which is of these kinds."""
    return {"items": _where(type={"not": {"enum": list(kinds)}})}


_COMMON: Final = "temperature top_p"
_OPTIONS: Final[dict[str, str]] = {
    "Options": "maxTokens temperature topP stop seed",
    "StreamRequest": "prompt messages id maxTokens temperature topP stop seed",
    "ClientStart": "prompt messages",
    "CompletionRequest": f"{_COMMON} messages max_tokens max_completion_tokens stop seed top_k "
    "top_logprobs frequency_penalty presence_penalty min_p repeat_penalty repetition_penalty",
    "ResponsesRequest": f"{_COMMON} max_output_tokens",
    "MessagesRequest": f"{_COMMON} messages max_tokens stop_sequences top_k",
    "WireOptions": f"{_COMMON} top_k min_p num_predict stop repeat_penalty "
    "frequency_penalty presence_penalty",
}
"""The options of each request that have rules."""

WITH_MAX_TOKENS: Final = _where(
    "max_tokens", max_tokens={"type": "integer"}, container=_NOTHING, mcp_servers={"maxItems": 0}
)
OPTIONAL_POSITION: Final[_Schema] = {"schema": POSITION, "allowEmptyValue": True}

_ONE_PROMPT: Final[_Schema] = {
    "oneOf": [
        _where("prompt", prompt=_STRING, messages=_NULL),
        _where("messages", messages={"type": "array"}, prompt=_NULL),
    ]
}
_ONE_SOURCE: Final[_Schema] = {
    "properties": {"data": _BASE64},
    "oneOf": [_where("url", url=_STRING, data=_NULL), _where("data", data=_STRING, url=_NULL)],
}
_NO_CALLS: Final[_Schema] = {"maxItems": 0}
_TOOL_FOR_CHOICE: Final[_Schema] = {
    "anyOf": [
        _where(tool_choice={"enum": [None, "none", "auto"]}),
        _where("tools", tools={"type": "array", "minItems": 1}),
    ]
}
_LOGPROBS: Final[_Schema] = {
    "anyOf": [_where(top_logprobs=_SWITCHED_OFF), _where("logprobs", logprobs={"const": True})]
}
_STRUCTURED: Final[_Schema] = {
    "additionalProperties": _NULL,
    "properties": {"json": {"type": ["object", "string", "null"]}, "grammar": {}},
}
_BIASES: Final[_Schema] = {
    "propertyNames": {"pattern": "^[0-9]+$"},
    "additionalProperties": {"type": "number", "minimum": -100, "maximum": 100},
}
_TEXT_IN_INPUT: Final[_Schema] = {
    "minLength": 1,
    "contains": {"not": _kind("image_generation_call")},
}
_UI_PART: Final[_Schema] = {
    "anyOf": [
        _where(type={"not": {"pattern": "^(?:tool-|dynamic-tool$)"}}),
        _where("toolCallId", toolCallId=_STRING),
        _where("state", state={"const": "input-streaming"}),
    ]
}
_NO_REASONING_TEXT: Final = _not_kinds("reasoning_text")
_RULES: Final[dict[str, _Schema]] = {
    "StreamRequest": _ONE_PROMPT,
    "ClientStart": _ONE_PROMPT,
    "SendChat": {
        "oneOf": [
            _where("text", text=_STRING, approvals=_NULL),
            _where("approvals", approvals=_OBJECT, text=_NULL),
        ]
    },
    "ImagePart": _ONE_SOURCE,
    "FilePart": _ONE_SOURCE,
    "Message": {
        "anyOf": [
            _where(role={"const": "assistant"}, tool_call_id=_NULL),
            _where(
                role={"const": "tool"},
                tool_calls=_NO_CALLS,
                content=_not_kinds("reasoning", "tool_call"),
            ),
            _where(
                role={"enum": ["system", "user"]},
                tool_call_id=_NULL,
                tool_calls=_NO_CALLS,
                content=_not_kinds("reasoning", "tool_call"),
            ),
        ]
    },
    "CompletionRequest": {
        "properties": {
            "n": {"enum": [None, 1]},
            "modalities": {"maxItems": 1, "items": {"const": "text"}},
            "logit_bias": _BIASES,
            "structured_outputs": _STRUCTURED,
        },
        "allOf": [_TOOL_FOR_CHOICE, _LOGPROBS],
    },
    "OpenAIMessage": {
        "anyOf": [
            _where(role={"const": "assistant"}, tool_call_id=_NULL),
            _where(role={"const": "tool"}, tool_calls=_NO_CALLS, reasoning_details=_NO_CALLS),
            _where(
                role={"enum": ["developer", "system", "user"]},
                tool_call_id=_NULL,
                tool_calls=_NO_CALLS,
                reasoning_details=_NO_CALLS,
            ),
        ]
    },
    "OpenAIPart": {"anyOf": [_kind("text", text=_STRING), _kind("image_url", image_url=_OBJECT)]},
    "OpenAIFormat": {
        "anyOf": [
            _where(type={"enum": ["text", "json_object"]}),
            _kind("json_schema", json_schema=_OBJECT),
        ]
    },
    "ResponsesRequest": {
        "properties": {
            **dict.fromkeys(("conversation", "prompt", "stop"), _NOTHING),
            **dict.fromkeys(("top_logprobs", "max_tool_calls"), _SWITCHED_OFF),
            "previous_response_id": {"maxLength": 0},
        },
        "allOf": [_TOOL_FOR_CHOICE],
        "anyOf": [
            _where("input", input=_TEXT_IN_INPUT),
            _where("instructions", instructions={"type": "string", "minLength": 1}),
        ],
    },
    "WireItem": {
        "anyOf": [
            _where(
                "role",
                type={"const": "message"},
                role=_STRING,
                content=_NO_REASONING_TEXT,
            ),
            _kind("function_call", call_id=_STRING, name=_STRING),
            {
                **_kind("function_call_output"),
                "not": _where("role", role={"const": "assistant"}),
            },
            _kind("reasoning"),
            _kind("image_generation_call"),
        ],
        "properties": {"output": _NO_REASONING_TEXT},
    },
    "ResponsesPart": {
        "anyOf": [
            *[_kind(name, text=_STRING) for name in ("input_text", "output_text", "text")],
            *[_kind(name) for name in ("reasoning_text", "refusal")],
            _kind("input_image", image_url=_STRING),
            _kind("input_file", file_data={"type": "string", "minLength": 1}),
            _kind("input_file", file_url={"type": "string", "minLength": 1}),
        ]
    },
    "ResponsesTool": _kind("function", name=_STRING),
    "ResponsesToolChoice": _kind("function", name=_STRING),
    "ResponsesFormat": {
        "anyOf": [
            _where(type={"enum": ["text", "json_object"]}),
            _kind("json_schema", schema=_OBJECT),
        ]
    },
    "MessagesRequest": {
        "properties": {"system": {"items": _kind("text", text=_STRING)}},
        "anyOf": [
            _where(tool_choice=_NULL),
            _where(tool_choice=_where(type={"enum": ["auto", "none"]})),
            _where("tools", tools={"type": "array", "minItems": 1}),
        ],
    },
    "AnthropicMessage": {
        "anyOf": [
            _where(role={"const": "assistant"}),
            _where(content=_not_kinds("thinking", "tool_use")),
        ]
    },
    "WireBlock": {
        "properties": {
            "content": _not_kinds("thinking", "tool_use", "tool_result", "redacted_thinking")
        },
        "anyOf": [
            _kind("text", text=_STRING),
            *[_kind(name) for name in ("thinking", "redacted_thinking", "tool_result")],
            _kind("tool_use", id=_STRING, name=_STRING),
            *[_kind(name, source=_OBJECT) for name in ("image", "document")],
        ],
    },
    "AnthropicSource": {
        "anyOf": [
            _kind("text"),
            _where("data", type={"const": "base64"}, data={**_STRING, **_BASE64}),
            _kind("url", url=_STRING),
        ]
    },
    "AnthropicTool": _where(type={"enum": [None, "custom"]}),
    "AnthropicToolChoice": {
        "anyOf": [
            _where(type={"enum": ["auto", "any", "none"]}),
            _kind("tool", name={**_STRING, "not": {"enum": ["auto", "required", "none"]}}),
        ]
    },
    "AnthropicFormat": _kind("json_schema", schema=_OBJECT),
    "WireUIMessage": {
        "anyOf": [
            _where(role={"const": "assistant"}, parts={"items": _UI_PART}),
            _where(role={"enum": ["system", "user"]}, parts=_not_kinds("reasoning")),
        ]
    },
    "AGUIMessage": _where(
        role={
            "enum": [*("activity", "assistant", "developer", "reasoning", "system", "tool", "user")]
        }
    ),
    "WireContent": {
        "anyOf": [_kind("text", text=_STRING), _where("source", source=_OBJECT)],
    },
    "AGUISource": {
        "anyOf": [
            _kind("url", url=_STRING),
            _where("value", type={"not": {"const": "url"}}, value={**_STRING, **_BASE64}),
        ]
    },
    "OllamaChatRequest": {
        "properties": {
            "logprobs": {"enum": [None, False]},
            "top_logprobs": _SWITCHED_OFF,
        },
        "not": {"required": ["trigger"]},
    },
    "OllamaMessage": {
        "properties": {"images": {"items": {**_STRING, **_BASE64}}},
        "not": {"required": ["parts"]},
    },
    "WireOptions": {
        "properties": {
            "mirostat": _SWITCHED_OFF,
            "typical_p": {"enum": [None, 1]},
            "tfs_z": {"enum": [None, 1]},
        }
    },
    "GenerateRequest": {
        "properties": {
            "logprobs": {"enum": [None, False]},
            "top_logprobs": _SWITCHED_OFF,
            "suffix": {"maxLength": 0},
            "template": {"maxLength": 0},
            "raw": {"enum": [None, False]},
            "context": {"maxItems": 0},
            "images": {"items": {**_STRING, **_BASE64}},
        }
    },
    "ShowRequest": {
        "anyOf": [
            _where("model", model={"type": "string", "minLength": 1}),
            _where("name", name={"type": "string", "minLength": 1}),
        ]
    },
}


def _ui_request(options: dict[str, _Schema]) -> _Schema:
    answered = {"contains": _where("type", type={"enum": ["text", "reasoning"]})}
    asked = {"anyOf": [_where(role={"enum": ["system", "user"]}), _where(parts=answered)]}
    return {"properties": {**options, "messages": {"contains": asked}}}


def _run_request(options: dict[str, _Schema]) -> _Schema:
    said = {"contains": _where(role={"not": {"enum": ["activity", "reasoning"]}})}
    return {
        "properties": {"forwardedProps": {"properties": options}, "resume": {"maxItems": 0}},
        "anyOf": [
            _where(messages=said),
            _where("context", context={"type": "array", "minItems": 1}),
        ],
    }
