"""The messages in `rxllm/server/README.md`, generated from their classes: `make readme`."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

import rxllm.server
from rxllm import errors
from rxllm.server.messages import StreamQuery
from rxllm.server.schema import json_schema
from rxllm.web import failures
from rxllm.web.failures import code_of

SERVER = Path(rxllm.server.__file__).parent
Schema = dict[str, Any]

_BODIES = (
    "StreamRequest",
    "Generated",
    "StreamList",
    "StreamSummary",
    "Health",
    "Options",
    "Message",
    "TextPart",
    "ImagePart",
    "ModelInfo",
    "ErrorInfo",
)


def messages() -> str:
    """Return the section: messages of clients and server, chunks, and the other objects."""
    known = json_schema()["$defs"]
    (_,), query = msgspec.json.schema_components([StreamQuery])
    parts = [
        ("Messages from a WebSocket client", _tagged(known, "ClientMessage")),
        (
            "Messages from the server (over SSE and NDJSON only `chunk`, `complete` and `error`)",
            _tagged(known, "ServerMessage"),
        ),
        ("Chunks", _tagged(known, "AnyChunk")),
        ("Query of `GET /stream`", [("query", query["StreamQuery"])]),
        (
            "Bodies, and the objects in messages",
            [(_titled(name, known[name]), known[name]) for name in _BODIES],
        ),
    ]
    tables = "\n".join(f"### {title}\n\n{_table(rows)}" for title, rows in parts)
    return f"\n{tables}\n"


def error_codes() -> str:
    """Return the section: the `code` of each error, its HTTP status, and its meaning."""
    rows = {**_classes(), **_refusals()}
    lines = [f"| `{code}` | {rows[code][0]} | {rows[code][1]} |\n" for code in sorted(rows)]
    return "\n| code | status | meaning |\n|---|---|---|\n" + "".join(lines) + "\n"


def _tagged(known: dict[str, Schema], union: str) -> list[tuple[str, Schema]]:
    mapping = known[union]["discriminator"]["mapping"]
    return [(f"`{tag}`", known[_name(reference)]) for tag, reference in mapping.items()]


def _titled(name: str, schema: Schema) -> str:
    tag = schema["properties"].get("type", {}).get("enum", ())
    return f"{name}: `{tag[0]}`" if len(tag) == 1 else name


def _table(rows: list[tuple[str, Schema]]) -> str:
    lines = [
        f"| {name} | {_meaning(schema)} | {'<br>'.join(_fields(schema))} |\n"
        for name, schema in rows
    ]
    return "| | meaning | fields |\n|---|---|---|\n" + "".join(lines)


def _meaning(schema: Schema) -> str:
    """Return the docstring, with the fields' names on the wire."""

    def on_wire(name: re.Match[str]) -> str:
        head, *tail = name[1].split("_")
        camel = head + "".join(map(str.capitalize, tail))
        return f"`{camel}`" if camel in schema["properties"] else name[0]

    return re.sub(r"`(\w+)`", on_wire, _words(schema["description"]))


def _fields(schema: Schema) -> Iterator[str]:
    for name, field in schema["properties"].items():
        if name == "type" and len(field.get("enum", ())) == 1:
            continue  # this is the tag
        optional = "" if name in schema["required"] else "?"
        meaning = f": {_words(field['description'])}" if "description" in field else ""
        yield f"`{name}`{optional} {_kind(field)}{meaning}"


def _kind(schema: Schema) -> str:
    """Describe a type in words. Null values are omitted on the wire."""
    if "$ref" in schema:
        return _name(schema["$ref"]).removeprefix("Chunk")
    if "enum" in schema:
        return " / ".join(f'`"{value}"`' for value in schema["enum"] if value is not None)
    if "anyOf" in schema:
        kinds = [_kind(each) for each in schema["anyOf"] if each.get("type") != "null"]
        return " or ".join(kinds)
    kind = schema.get("type", "any JSON")
    if kind == "array":
        return f"list of {_kind(schema['items'])}"
    if "maxLength" in schema:
        return f"{kind} of {schema['minLength']} to {schema['maxLength']} characters"
    return f"{kind}, not empty" if "minLength" in schema else str(kind)


def _classes() -> dict[str, tuple[int, str]]:
    """Return the errors whose code is the name of their class."""
    modules = (errors, failures)
    kinds = {getattr(module, name) for module in modules for name in module.__all__}
    rows = {"internal": (500, "Any other error of the server.")}
    for kind in kinds - {failures.RefusedError}:
        if isinstance(kind, type) and issubclass(kind, errors.RxLLMError):
            error = kind.__new__(kind)
            meaning = _words(inspect.getdoc(kind) or "")
            rows[code_of(error)] = failures.status_of(error), re.split(r"(?<=\.) ", meaning)[0]
    return rows


def _refusals() -> dict[str, tuple[int, str]]:
    """Return the refusals, which have their own codes and messages."""
    rows = {"method_not_allowed": (405, "Method Not Allowed")}
    for file in sorted(SERVER.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            match node:
                case ast.Call(
                    func=ast.Name("RefusedError"),
                    args=[ast.Constant(str(code)), message, ast.Constant(int(status))],
                ):
                    rows[code] = status, _words(_text_of(message))
    return rows


def _text_of(message: ast.expr) -> str:
    if isinstance(message, ast.JoinedStr):
        return "".join(_text_of(part) for part in message.values)
    return str(message.value) if isinstance(message, ast.Constant) else "..."


def _name(reference: str) -> str:
    return reference.rpartition("/")[2]


def _words(text: str) -> str:
    """Return a docstring or description as the text of a table cell."""
    text = re.split(r"\n\s*\n(?:Args|Attributes|Raises):\n", inspect.cleandoc(text))[0]
    return " ".join(text.split()).replace("|", "\\|")
