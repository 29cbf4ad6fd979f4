"""Schemas that end, hang or fill a process elsewhere: each is tried in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

PROGRAM = """
import json, resource, sys
from tests.models.local.byte_vocabulary import compiled, random_answer
from rxllm.errors import RxLLMError

resource.setrlimit(resource.RLIMIT_CPU, (15, 15))
resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30))
try:
    schema = eval(sys.stdin.read())
    answer = random_answer(compiled(schema), 1, steps=400)
    print("answer", json.dumps(answer))
except RxLLMError as error:
    print(type(error).__name__)
"""

ENDED = {
    '{"const": "\\0"}': "answer",
    '{"enum": ["\\0", "a\\0b"]}': "answer",
    '{"type": "string", "pattern": "^[z-a]$"}': "UnsupportedError",
    '{"type": "string", "pattern": "^[\\\\x00]$"}': "answer",
    '{"type": "string", "maxLength": 20000}': "answer",
    '{"type": "array", "maxItems": 20000}': "answer",
    '{"type": "string", "pattern": "^a{0,30000}$"}': "answer",
    '{"type": "string", "pattern": "^((.?){60}){60}$"}': "ModelError",
    '{"enum": list(range(50_000))}': "UnsupportedError",
    '{"type": "string", "pattern": "(.{0,9}){40}"}': "ModelError",
    '{"type": "string", "pattern": "^a{1000000000}$"}': "answer",
    '{"type": "array", "minItems": 10**9}': "answer",
    '{"anyOf": [{"const": each} for each in range(4000)]}': "UnsupportedError",
    '{"allOf": [{"multipleOf": each} for each in range(101, 121)]}': "UnsupportedError",
    '{"properties": {"p%d" % each: {} for each in range(400)}}': "answer",
    '{"$ref": "#/$defs/0", "$defs": {"1500": {"type": "integer"}} | '
    '{str(each): {"$ref": "#/$defs/%d" % (each + 1)} for each in range(1500)}}': "answer",
    '{"$ref": "#/$defs/0", "$defs": {"700": {"type": "integer"}} | '
    '{str(each): {"items": {"$ref": "#/$defs/%d" % (each + 1)}} for each in range(700)}}': "answer",
}
"""Python for a schema, and what comes of it."""


@pytest.mark.parametrize(("schema", "outcome"), ENDED.items())
def test_a_schema_never_ends_the_process(schema: str, outcome: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], input=schema, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
    kind, _, answer = done.stdout.strip().partition(" ")
    assert kind == outcome
    value: Any = json.loads(answer) if answer else None
    assert value is None or isinstance(value, str)
