"""The result of a call to an MCP server, as the JSON value that a model is given."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mcp.types import CallToolResult, ContentBlock

__all__ = ["output_of"]


def output_of(result: CallToolResult) -> Any:
    """Return the structured content or the text; with other content, a list of all there is.

    Bytes are described by their size, since base64 would only fill the context of the model.
    """
    content = [_described(each) for each in result.content]
    if result.structured_content is not None:  # which text repeats for those who can't read it
        content = [each for each in content if not isinstance(each, str)]
        content.insert(0, result.structured_content)
        return content[0] if len(content) == 1 else content
    if all(isinstance(each, str) for each in content):
        return "\n".join(content)
    return content


def _described(block: ContentBlock) -> Any:
    if block.type == "text":
        return block.text
    fields = block.model_dump(mode="json", by_alias=True, exclude_none=True)
    resource = fields.get("resource", fields)
    for name in ("data", "blob"):
        if name in resource:
            resource["bytes"] = _size_of(resource.pop(name))
    return fields


def _size_of(base64: str) -> int:
    return len(base64) * 3 // 4 - base64[-2:].count("=")
