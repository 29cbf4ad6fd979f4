"""Each example runs in a fresh interpreter and prints the expected output."""

from __future__ import annotations

import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
from aiohttp.test_utils import TestClient, TestServer

from rxllm.testing import no_leaks

EXAMPLES = sorted((Path(__file__).parents[1] / "examples").glob("*.py"))

# No API keys, and no proxy for connections to this machine.
CLEAN_ENVIRONMENT = {
    **{name: value for name, value in os.environ.items() if not name.endswith(("_KEY", "_URL"))},
    "NO_PROXY": "*",
}

# Several patterns: the output of concurrent parties, in any order.
OUTPUT: dict[str, str | tuple[str, ...]] = {
    "01_print_a_story": r"robot[\s\S]*tokens/s",
    "02_options": r"tiny/onnx: '.*dragon[\s\S]*scripted",
    "03_save_to_file": r"\d+ characters\nModelLoadError: .*no/such/model",
    "04_typed_chunks": r"start: tiny/onnx[\s\S]*token: [\s\S]*usage: [\s\S]*end: stop",
    "05_events": r"has begun\nsentence 1[\s\S]*10 tokens[\s\S]*complete: \d+ tokens, stop",
    "06_handlers_by_type": r"Tally\(longest=.*tokens=\d+, reasons=\['stop'\]\)",
    "07_backup_model": r"ModelLoadError, so the bundled model answers\n\n\w",
    "08_pause_resume_stop": r"paused\nrunning\ncancelled: cancelled after \d+ words\n.*: 0",
    "09_scope": r"\.\n\{'a fox': 'completed'[\s\S]*\n\{'a fox': 'completed'",
    "10_batches": r"5 tokens: '",
    "11_stop_sequences": r"'Yes, I can.' stop '\\nHuman:'",
    "12_measure_and_progress": r"pays: True\n[\s\S]*%[\s\S]*completed: \d+ tokens[\s\S]*p99",
    "13_local_models": r"tiny/onnx +1024[\s\S]*four streams in one batch:\n  \w",
    "14_chat": r"> Hello!\n\w[\s\S]*bear",
    "15_test_without_a_model": r"Hi !",
    "16_openai": r"KEY is not set[\s\S]*Hello, human![\s\S]*mini-2024-07-18 3.15e-06 USD",
    "17_anthropic": r"KEY is not set[\s\S]*calls: weather.*Oslo[\s\S]*It snows in Oslo",
    "18_openrouter": r"ServerError after 'Good ', retryable: True\n'Good morning!' cost: 1.2e-05",
    "19_groq": r"GROQ_API_KEY is not set[\s\S]*49 50[\s\S]*completed: 50 tokens",
    "20_openai_compatible": r"BASE_URL is not set[\s\S]*Hello yourself!",
    "21_shape_the_pace": r"comes: 12 pieces[\s\S]*by word: \d+ pieces[\s\S]*at most [1-8] waited",
    "22_words_and_sentences": r"\d+ sentences of \d+ characters[\s\S]*-- 9 words of 4[\s\S]*-- 2 l",
    "23_filters": r"masked: \d+ of the word[\s\S]*\*\*\*[\s\S]*'This is fine. ' content_filter",
    "24_transform": r"Token was not saved[\s\S]*28 THE ANSWER IS \?\?, OF[\s\S]*time \{'at': 9\}",
    "25_json_and_markdown": r"complete: Cat\(name='Mia', age=\d+\)[\s\S]*final 2 '<p>not &lt;scrip",
    "26_retry_and_fallback": r"RateLimitError[\s\S]*ConnectionFailedError[\s\S]*tiny/onnx: '",
    "27_resume_after_a_pulled_plug": r"resumed: one, two, three, four, five[\s\S]*replay: one, "
    r"two, three\n[\s\S]*degraded: one, two[\s\S]*kept: one, two",
    "28_one_stream_many_readers": r"has it all: True\nthe slow one got \d+ chunks, and was up",
    "29_cache": r"4 answers, 1 text, 1 in the store\nfaster from there: True",
    "30_pool_and_registry": r"slots: 200 char[\s\S]*3 active, 1 w[\s\S]*short 2: completed\n"
    r"endless 1: cancelled[\s\S]*0 active",
    "31_side_by_side": r"tiny: completed, \d+[\s\S]*broken: failed[\s\S]*2 active\n1 active\n"
    r"0 active[\s\S]*round 3[\s\S]*detailed: \w",
    "32_race": r"fast after 0\.\d s, 1 stopped\nHere I am[\s\S]*second after[\s\S]*first after",
    "33_live_dashboard": r"Error[\s\S]*3 completed, 1 failed[\s\S]*fastest: quick, slowest: s",
    "34_log_and_analyze": r"stream\.start[\s\S]*words, \d+ different[\s\S]*100 % complete",
    "35_sse_in_ten_lines": r"400 a prompt is missing[\s\S]*text/event-stream\nevent: chunk\nid: 1\n"
    r"[\s\S]*event: complete\nid: \d+",
    "36_embed_in_aiohttp": (
        r"server: 30 tokens, left early: False\n",
        r"server: \d+ tokens, left early: True\n",
        r"client: \d+ lines, the last: '[\s\S]*client: \['answer 1', 'answer 2'\]\n"
        r"[\s\S]*client: \{'active': [01]\}",
    ),
    "37_websocket_chat": r"connected: [\s\S]*error: invalid_message, field options.maxTokens[\s\S]*"
    r"count is paused[\s\S]*count is running[\s\S]*count is cancelled\ncancelled, \d+ tokens of 10",
    "38_room": r"Cleo meets \['Ann', 'Bob', 'Cleo'\][\s\S]*one id: True\n"
    r"all have it all: True\nCleo",
    "39_tools": r"find_place \{\"place\": \"Velmo\"\} -> [\s\S]*320[\s\S]*"
    r"calculator \{\"expression\": \"12 \* 7\"\} -> \{\"result\":84\}\n.*84[\s\S]*get_time \{\} -> "
    r"\{\"time\":\"\d\d:\d\d\"\}\n[\s\S]*"
    r"find_place \{\"place\": ",
}


def test_every_example_has_an_expectation() -> None:
    assert [example.stem for example in EXAMPLES] == sorted(OUTPUT)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.stem)
def test_it_runs(example: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", str(example)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env=CLEAN_ENVIRONMENT,
    )
    assert done.returncode == 0, done.stderr
    expected = OUTPUT[example.stem]
    for pattern in (expected,) if isinstance(expected, str) else expected:
        assert re.search(pattern, done.stdout + done.stderr), f"{pattern} in:\n{done.stdout}"


async def test_invalid_messages_do_not_end_other_answers_of_a_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A single invalid message must not end the other answers of its connection."""
    monkeypatch.setattr("rxllm.run", lambda program: program.close())
    (path,) = (each for each in EXAMPLES if each.stem == "36_embed_in_aiohttp")
    app = runpy.run_path(str(path))["build"]()
    async with no_leaks(), TestClient(TestServer(app)) as client:
        async with client.ws_connect("/talk") as socket:
            await socket.send_str("Tell me about a fox")
            await socket.send_str(" ")
            await socket.send_bytes(b"\x00")
            types: list[str] = []
            while "complete" not in types or types.count("error") < 2:
                types.append((await socket.receive_json(timeout=30))["type"])
        for body in (b"nonsense", b"{}", b"[]", b'{"prompt": ""}', b'{"prompt": 5}', b"\xff"):
            assert (await client.post("/lines", data=body)).status == 400
