"""Operators that transform chunks."""

from rxllm.operators.transforming._accumulate import Accumulated, accumulate
from rxllm.operators.transforming._error_boundary import error_boundary
from rxllm.operators.transforming._filter_async import filter_async
from rxllm.operators.transforming._json_items import json_items
from rxllm.operators.transforming._map_async import map_async
from rxllm.operators.transforming._map_text import map_text
from rxllm.operators.transforming._markdown_to_html import Html, markdown_to_html
from rxllm.operators.transforming._parse_json import parse_json
from rxllm.operators.transforming._split_reasoning import split_reasoning
from rxllm.operators.transforming._text import text
from rxllm.operators.transforming._tool_calls import arguments_of, tool_calls

__all__ = [
    "Accumulated",
    "Html",
    "accumulate",
    "arguments_of",
    "error_boundary",
    "filter_async",
    "json_items",
    "map_async",
    "map_text",
    "markdown_to_html",
    "parse_json",
    "split_reasoning",
    "text",
    "tool_calls",
]
