"""Both engines with the bundled model: the behaviour of any local model."""

from __future__ import annotations

import asyncio
import gc
import json
import shutil
import threading
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tokenizers import Tokenizer
from tokenizers.processors import TemplateProcessing

import rxllm
from rxllm import End, Request, Start, Token, Usage, Valve, to_async
from rxllm.chunks import Chunk
from rxllm.errors import BadRequestError, ContextLengthError, ModelLoadError, UnsupportedError
from rxllm.models import tiny
from rxllm.models.local import runner
from rxllm.models.local.engine import Sampled
from rxllm.models.local.model import LocalModel
from rxllm.requests import as_request
from rxllm.valve import StreamScheduler

STORY = "Tell me a story about a robot who learns to paint"
PROMPTS = [
    f"Tell me a story about {subject}"
    for subject in (
        "a fox",
        "an old clock",
        "a shy dragon",
        "two sisters",
        "a baker",
        "a whale",
        "a king",
        "a kite",
    )
]


PANIC = json.dumps(
    json.loads((tiny.directory / "tokenizer.json").read_text(encoding="utf-8"))
    | {"normalizer": {"type": "Precompiled", "precompiled_charsmap": "AAAA"}}
).encode()
"""A tokenizer that makes the library panic."""


async def answer(model: rxllm.Model, prompt: Any, **options: Any) -> list[Chunk]:
    return [chunk async for chunk in to_async(model.stream(prompt, **options))]


def text(chunks: list[Chunk]) -> str:
    return "".join(chunk.text for chunk in chunks if isinstance(chunk, Token))


async def test_a_story_streams_and_ends_by_itself(model: LocalModel) -> None:
    await model.load()
    chunks = await answer(model, STORY, temperature=0)
    assert isinstance(chunks[0], Start)
    assert chunks[0].model == model.info.id
    assert "robot" in text(chunks)
    usage = chunks[-2]
    assert isinstance(usage, Usage)
    assert usage.output_tokens > len([chunk for chunk in chunks if isinstance(chunk, Token)]) * 0.5
    assert chunks[-1] == End("stop")


async def test_greedy_and_seeded_answers_are_reproducible(model: LocalModel) -> None:
    for options in ({"temperature": 0}, {"temperature": 0.9, "seed": 5}):
        first = await answer(model, STORY, max_tokens=60, **options)
        assert text(first) == text(await answer(model, STORY, max_tokens=60, **options))
    others = {text(await answer(model, STORY, max_tokens=60, seed=seed)) for seed in range(4)}
    assert len(others) > 1


async def test_max_tokens_is_exact(model: LocalModel) -> None:
    chunks = await answer(model, STORY, max_tokens=7)
    assert isinstance(chunks[-2], Usage)
    assert chunks[-2].output_tokens == 7
    assert chunks[-1] == End("length")


async def test_a_stop_sequence_is_found_across_tokens(model: LocalModel) -> None:
    whole = text(await answer(model, STORY, temperature=0))
    stop = whole[60:72]
    chunks = await answer(model, STORY, temperature=0, stop=stop)
    assert text(chunks) == whole[: whole.index(stop)]
    assert chunks[-1] == End("stop", stop_sequence=stop)


async def test_confidence_is_given_only_on_request(model: LocalModel) -> None:
    asked = await answer(model, STORY, max_tokens=20, temperature=0, confidence=True)
    values = [chunk.confidence for chunk in asked if isinstance(chunk, Token)]
    assert all(value is not None and 0 < value <= 1 for value in values)
    silent = await answer(model, STORY, max_tokens=5, temperature=0)
    assert {chunk.confidence for chunk in silent if isinstance(chunk, Token)} == {None}


@pytest.mark.parametrize(
    "sample", ["né à “côté”", "🎨🙂👩‍🚀", "漢字かな", "שלום 🇫🇷", "e\u0301\r\n"]
)
def test_characters_of_several_tokens_are_emitted_whole(model: LocalModel, sample: str) -> None:
    """The engine is forced to output the sample token by token."""
    engine = model._runner._load()  # type: ignore[union-attr]
    tokenizer = Tokenizer.from_file(str(tiny.directory / "tokenizer.json"))
    forced = iter(tokenizer.encode(sample).ids)
    sequence = engine.open([1], as_request("Hi"), None)
    if hasattr(sequence.sampler, "free"):
        sequence.sampler.free()
    sequence.sampler = SimpleNamespace(sample=lambda *_: next(forced), free=lambda: None)
    pieces = [engine.step([sequence])[0] for _ in tokenizer.encode(sample).ids]
    texts = [piece.text for piece in pieces if isinstance(piece, Sampled)]
    assert "".join(texts) == sample
    assert "\ufffd" not in "".join(texts)
    if any(ord(character) > 0x2000 for character in sample):
        assert len(texts) > len([text for text in texts if text]), (
            "some tokens are incomplete characters"
        )
    engine.close(sequence)
    engine.unload()


async def test_a_partial_answer_is_continued(model: LocalModel) -> None:
    whole = text(await answer(model, STORY, temperature=0))
    partial = whole[: whole.index(".") + 1]
    request = as_request(STORY, temperature=0).continuing(partial)
    assert isinstance(request, Request)
    rest = text(await answer(model, request))
    assert rest
    assert not rest.startswith(partial[:10])


async def test_a_common_prompt_prefix_is_reused(model: LocalModel) -> None:
    first = await answer(model, STORY, temperature=0, max_tokens=40)
    again = await answer(model, STORY, temperature=0, max_tokens=40)
    usage = again[-2]
    assert isinstance(usage, Usage)
    assert usage.cached_tokens == usage.input_tokens - 1
    assert text(first) == text(again)


async def test_a_prompt_beyond_the_context_is_an_error_before_generation(model: LocalModel) -> None:
    received: list[Chunk] = []
    with pytest.raises(ContextLengthError, match="1024"):
        async for chunk in to_async(model.stream("word " * 2000)):
            received.append(chunk)
    assert received == []


async def test_an_answer_ends_with_the_context(model: LocalModel) -> None:
    short = rxllm.model(model.info.id, context_length=60)
    chunks = await answer(short, STORY, temperature=0)
    usage = chunks[-2]
    assert isinstance(usage, Usage)
    assert usage.input_tokens + usage.output_tokens == 60
    assert chunks[-1] == End("length")


async def test_eight_streams_at_once_interleave(model: LocalModel) -> None:
    order: list[int] = []

    async def one(index: int) -> None:
        async for _ in to_async(model.stream(PROMPTS[index], temperature=0, max_tokens=60)):
            order.append(index)

    await asyncio.gather(*(one(index) for index in range(8)))
    assert sorted(set(order)) == list(range(8))
    assert sum(a != b for a, b in pairwise(order)) > 40


async def test_a_paused_stream_resumes_without_loss(model: LocalModel) -> None:
    whole = text(await answer(model, STORY, temperature=0))
    valve = Valve()
    scheduler = StreamScheduler(asyncio.get_running_loop(), valve)
    received: list[Chunk] = []
    paused, done = asyncio.Event(), asyncio.Event()

    def on_next(chunk: Chunk) -> None:
        received.append(chunk)
        if len(received) == 10:
            valve.close()
            paused.set()

    model.stream(STORY, temperature=0).subscribe(
        on_next, on_completed=done.set, scheduler=scheduler
    )
    await paused.wait()
    await answer(model, PROMPTS[0], temperature=0, max_tokens=80)
    assert len(received) == 10
    valve.open()
    await done.wait()
    assert text(received) == whole


@pytest.mark.parametrize("at", [0, 1, 2, 30])
async def test_disposal_at_any_moment_leaves_nothing_behind(model: LocalModel, at: int) -> None:
    scheduler = StreamScheduler(asyncio.get_running_loop())
    reached = asyncio.Event()
    received: list[Chunk] = []

    def on_next(chunk: Chunk) -> None:
        received.append(chunk)
        if len(received) == at:
            reached.set()

    subscription = model.stream(STORY, temperature=0).subscribe(on_next, scheduler=scheduler)
    if at:
        await reached.wait()
    subscription.dispose()
    await scheduler.settle()
    assert model.active == 0
    assert not scheduler.tasks


async def test_json_and_a_schema_are_kept_to(model: LocalModel) -> None:
    schema = {
        "type": "object",
        "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
        "required": ["name", "age"],
    }
    prompt = "Give me a JSON record of a cat named Mia"
    for format_ in ("json", schema):
        chunks = await answer(model, prompt, response_format=format_, temperature=0, max_tokens=200)
        assert chunks[-1] == End("stop")
        value = json.loads(text(chunks))
        assert isinstance(value, dict)
    assert isinstance(value["age"], int)


async def test_a_schema_is_kept_to_at_high_temperature(model: LocalModel) -> None:
    short = {"type": "string", "maxLength": 30}
    schema = {
        "type": "object",
        "properties": {"a": short},
        "required": ["a"],
        "additionalProperties": False,
    }
    answers = await asyncio.gather(
        *(
            answer(model, STORY, response_format=schema, temperature=1.5, seed=seed, max_tokens=150)
            for seed in range(16)
        )
    )
    finished = [text(chunks) for chunks in answers if chunks[-1] == End("stop")]
    assert finished
    for record in finished:
        assert isinstance(json.loads(record)["a"], str)
    constant = {"const": "é😀"}
    assert json.loads(text(await answer(model, STORY, response_format=constant))) == "é😀"


async def test_the_probability_of_a_token_does_not_depend_on_the_schema(model: LocalModel) -> None:
    free = await answer(model, "Hello!", temperature=0, max_tokens=1, confidence=True)
    begun = {"type": "string", "pattern": "^[a-z]+$"}
    held = await answer(model, "Hello!", confidence=True, max_tokens=3, response_format=begun)
    (first, *_) = [chunk for chunk in held if isinstance(chunk, Token)]
    (usual,) = [chunk for chunk in free if isinstance(chunk, Token)]
    assert first.text.startswith('"')
    assert first.confidence is not None
    assert usual.confidence is not None
    assert first.confidence < usual.confidence


async def test_an_unreferenced_model_frees_its_memory() -> None:
    pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")
    model = rxllm.model("tiny/llama", slots=1)
    assert isinstance(model, LocalModel)
    await answer(model, "Hi", max_tokens=1)
    freeing = model._runner.engine._free  # type: ignore[union-attr]
    assert freeing.alive
    async with asyncio.timeout(10):
        while model.active or any(t.name == "rxllm tiny/llama" for t in threading.enumerate()):
            await asyncio.sleep(0.001)
    del model
    gc.collect()
    assert not freeing.alive


async def test_concurrent_long_prompts_give_the_same_answers_as_alone(model: LocalModel) -> None:
    prompts = [f"{name} asks. " * 120 + STORY for name in ("Ada", "Bo", "Cy", "Di")]
    alone = [text(await answer(model, prompt, temperature=0, max_tokens=30)) for prompt in prompts]
    fresh = rxllm.model(model.info.id, slots=4)
    together = await asyncio.gather(
        *(answer(fresh, prompt, temperature=0, max_tokens=30) for prompt in prompts)
    )
    usages = [chunk for chunks in together for chunk in chunks if isinstance(chunk, Usage)]
    assert min(usage.input_tokens for usage in usages) > 512
    same = [one == text(chunks) for one, chunks in zip(alone, together, strict=True)]
    assert sum(same) >= (4 if model.info.id == "tiny/onnx" else 3)


async def test_a_grammar_is_followed_and_an_invalid_one_is_an_error(model: LocalModel) -> None:
    grammar = {"grammar": 'root ::= "yes" | "no"'}
    assert text(await answer(model, "Yes or no?", extra=grammar)) in {"yes", "no"}
    with pytest.raises(BadRequestError, match="GBNF"):
        await answer(model, "Yes or no?", extra={"grammar": "root ::= ("})
    with pytest.raises(UnsupportedError, match="'other' in extra"):
        await answer(model, "Yes or no?", extra={"other": 1})


@pytest.mark.parametrize(
    ("name", "make", "reason"),
    [
        ("onnx", lambda path: None, "does not exist"),
        ("onnx", lambda path: path.write_text("x"), "is a file"),
        ("onnx", lambda path: path.mkdir(), "has no model.onnx"),
        ("onnx", lambda path: broken_copy(path, "model.onnx"), "onnxruntime can't load"),
        ("onnx", lambda path: broken_copy(path, "tokenizer.json"), "isn't a valid tokenizer"),
        ("onnx", lambda path: broken_copy(path, "config.json"), "can't be read"),
        ("onnx", lambda path: changed_copy(path, "chat_template.jinja", b"{% for %}"), "template"),
        ("onnx", lambda path: changed_copy(path, "chat_template.jinja", b"\xff"), "can't be read"),
        (
            "onnx",
            lambda path: changed_copy(path, "tokenizer.json", PANIC),
            "isn't a valid tokenizer",
        ),
        ("llama", lambda path: None, "No such file"),
        ("llama", lambda path: path.write_text("hello"), "isn't a valid GGUF file"),
        ("llama", lambda path: path.mkdir(), "Is a directory"),
        (
            "llama",
            lambda path: path.write_bytes((tiny.directory / "tiny.gguf").read_bytes()[:400_000]),
            "llama.cpp can't load",
        ),
        ("llama", lambda path: path.write_bytes(b"GGUF"), "in the middle of its header"),
    ],
)
async def test_a_missing_wrong_or_corrupt_file_is_reported_with_path_and_reason(
    name: str, make: Any, reason: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    if name == "llama":
        pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")
    path = tmp_path / "model"
    make(path)
    model = rxllm.model(f"{name}/{path}")
    with pytest.raises(ModelLoadError, match=reason) as caught:
        await answer(model, "Hello")
    assert str(path) in str(caught.value)
    assert capfd.readouterr().err == "" or reason == "isn't a valid tokenizer", (
        "the library may print a panic"
    )


async def test_the_default_of_a_list_of_chat_templates_is_used(tmp_path: Path) -> None:
    path = tmp_path / "model"
    config = json.loads((tiny.directory / "tokenizer_config.json").read_text(encoding="utf-8"))
    default = {"name": "default", "template": config["chat_template"]}
    config["chat_template"] = [{"name": "tool_use", "template": "no"}, default]
    changed_copy(path, "tokenizer_config.json", json.dumps(config).encode())
    same = [
        text(await answer(rxllm.model(name), "Hello!", temperature=0))
        for name in ("tiny", f"onnx/{path}")
    ]
    assert same[0] == same[1]


def changed_copy(path: Path, name: str, content: bytes) -> None:
    shutil.copytree(tiny.directory, path, ignore=shutil.ignore_patterns("*.py", "*.gguf", "corpus"))
    (path / name).write_bytes(content)


def broken_copy(path: Path, broken: str) -> None:
    whole = (tiny.directory / broken).read_bytes()
    changed_copy(path, broken, whole[: len(whole) // 2])


def other_copy(path: Path, **moved: str) -> Path:
    """A copy of the bundled model with other file names."""
    shutil.copytree(tiny.directory, path, ignore=shutil.ignore_patterns("*.py", "*.gguf", "corpus"))
    for name, other in moved.items():
        (path / other).parent.mkdir(exist_ok=True)
        (path / name.replace("__", ".")).rename(path / other)
    return path


@pytest.mark.parametrize("name", ["onnx/model.onnx", "onnx/model_quantized.onnx", "model_q4.onnx"])
async def test_the_file_has_one_of_several_names(tmp_path: Path, name: str) -> None:
    path = other_copy(tmp_path / "model", model__onnx=name)
    result = await rxllm.model(f"onnx/{path}", slots=1).stream("Hello!", temperature=0)
    assert result.text == (await rxllm.model("tiny").stream("Hello!", temperature=0)).text


async def test_what_was_for_training_is_left_out_and_templates_may_be_json(tmp_path: Path) -> None:
    path = other_copy(tmp_path / "model")
    tokenizer = Tokenizer.from_file(str(path / "tokenizer.json"))
    tokenizer.enable_truncation(4)
    tokenizer.enable_padding(length=32)
    tokenizer.save(str(path / "tokenizer.json"))
    config = json.loads((path / "tokenizer_config.json").read_text())
    template = {"chat_template": config.pop("chat_template")}
    (path / "tokenizer_config.json").write_text(json.dumps(config))
    (path / "chat_template.json").write_text(json.dumps(template))
    model: Any = rxllm.model(f"onnx/{path}", slots=1)
    usual: Any = rxllm.model("tiny")
    assert await model.count_tokens(STORY) == await usual.count_tokens(STORY)


async def test_without_a_template_a_prompt_begins_as_the_tokenizer_says(tmp_path: Path) -> None:
    path = other_copy(tmp_path / "model")
    config = json.loads((path / "tokenizer_config.json").read_text())
    del config["chat_template"]
    (path / "tokenizer_config.json").write_text(json.dumps(config))
    plain: Any = rxllm.model(f"onnx/{path}", slots=1)
    count = (await plain.count_tokens("Hello there")).tokens
    tokenizer = Tokenizer.from_file(str(path / "tokenizer.json"))
    tokenizer.post_processor = TemplateProcessing(
        single="<|begin|> $A <|end|>", special_tokens=[("<|begin|>", 1), ("<|end|>", 5)]
    )
    tokenizer.save(str(path / "tokenizer.json"))
    begun: Any = rxllm.model(f"onnx/{path}", slots=1)
    assert (await begun.count_tokens("Hello there")).tokens == count + 1
    config["add_bos_token"] = True
    (path / "tokenizer_config.json").write_text(json.dumps(config))
    Tokenizer.from_file(str(tiny.directory / "tokenizer.json")).save(str(path / "tokenizer.json"))
    added: Any = rxllm.model(f"onnx/{path}", slots=1)
    assert (await added.count_tokens("Hello there")).tokens == count + 1


def merge_decoder(path: Path) -> None:
    """Give a model the input of merged decoders; its scores are NaN if it is used wrongly."""
    onnx = pytest.importorskip("onnx")
    model = onnx.load(path)
    graph, node = model.graph, onnx.helper.make_node
    graph.input.append(
        onnx.helper.make_tensor_value_info("use_cache_branch", onnx.TensorProto.BOOL, [1])
    )
    for each in graph.node:
        each.output[:] = ["scores" if name == "logits" else name for name in each.output]
    for name, value in (("zero", 0), ("one", 1), ("two", 2)):
        graph.initializer.append(
            onnx.helper.make_tensor(name, onnx.TensorProto.INT64, [1], [value])
        )
    nan = onnx.helper.make_tensor("nan", onnx.TensorProto.FLOAT, [1], [float("nan")])
    graph.initializer.append(nan)
    graph.node.extend(
        [
            node("Shape", ["past_key_values.0.key"], ["past_shape"]),
            node("Gather", ["past_shape", "two"], ["past_length"], axis=0),
            node("Greater", ["past_length", "zero"], ["has_past"]),
            node("Equal", ["use_cache_branch", "has_past"], ["is_right_branch"]),
            node("Shape", ["input_ids"], ["ids_shape"]),
            node("Gather", ["ids_shape", "one"], ["length"], axis=0),
            node("Equal", ["length", "one"], ["is_single"]),
            node("Not", ["has_past"], ["has_no_past"]),
            node("Or", ["is_single", "has_no_past"], ["has_right_length"]),
            node("And", ["is_right_branch", "has_right_length"], ["is_right"]),
            node("Where", ["is_right", "scores", "nan"], ["logits"]),
        ]
    )
    onnx.save(model, path)


async def test_a_merged_decoder_reads_a_prompt_at_once_and_then_single_tokens(
    tmp_path: Path,
) -> None:
    path = other_copy(tmp_path / "model", model__onnx="decoder_model_merged.onnx")
    merge_decoder(path / "decoder_model_merged.onnx")
    model, usual = rxllm.model(f"onnx/{path}", slots=2), rxllm.model("tiny")
    long = " ".join([STORY] * 20)
    for prompt in (STORY, long, f"{long}!", STORY):
        asked = [each.stream(prompt, temperature=0, max_tokens=20) for each in (model, usual)]
        answers = await asyncio.gather(*asked)
        assert answers[0].text == answers[1].text


LONG_SYSTEM = "You are a friendly storyteller. " * 20


async def test_streams_that_begin_alike_share_the_beginning(model: LocalModel) -> None:
    """Also with one that is still running."""
    system = rxllm.Message("system", LONG_SYSTEM)
    messages = [system, rxllm.Message("user", STORY)]
    other = [system, rxllm.Message("user", "Hello!")]
    alone = await model.stream(other, temperature=0, max_tokens=10)
    await model.stream("Something else " * 60, max_tokens=1)
    begun = asyncio.Event()

    async def talk() -> None:
        async for chunk in model.stream(messages, temperature=0, max_tokens=200):
            if isinstance(chunk, Token):
                begun.set()

    talking = asyncio.create_task(talk())
    await begun.wait()
    results = await asyncio.gather(
        *(model.stream(other, temperature=0, max_tokens=10) for _ in range(2))
    )
    await talking
    for result in results:
        assert result.usage is not None
        assert (result.usage.cached_tokens or 0) > 100
        assert result.text == alone.text


async def test_calls_are_held_to_the_tools_where_that_can_be_done(model: LocalModel) -> None:
    """Even at a temperature at which the model writes nonsense."""
    place = {"type": "object", "properties": {"place": {"type": "string", "maxLength": 9}}}
    closed = {**place, "required": ["place"], "additionalProperties": False}
    asked = "What time is it in Velmo?"
    for parameters in (closed, {**closed, "not": {}}):
        tools = [rxllm.Tool("clock", "The time in a place", parameters)]
        results = await asyncio.gather(
            *(model.stream(asked, tools=tools, seed=seed, max_tokens=80) for seed in range(6))
        )
        calls = [call for result in results for call in result.tool_calls if call.complete]
        assert calls
        if "not" not in parameters:
            assert {call.name for call in calls} == {"clock"}
            assert {tuple(json.loads(call.arguments)) for call in calls} == {("place",)}
    with pytest.raises(UnsupportedError, match="the parameters of the tool 'clock'"):
        await model.stream(asked, tools=tools, tool_choice="required")


async def test_a_kept_cache_outlives_the_stream_that_made_it() -> None:
    """Streams that are cancelled at once leave caches, which later ones take over whole."""
    model = rxllm.model("tiny", slots=1)
    prompt = "Tell me a story about a robot. " * 6
    expected = (await model.stream(prompt, temperature=0, max_tokens=30)).text
    for _ in range(3):
        for _ in range(10):
            for asked in (prompt, f"{prompt}And?"):
                async for chunk in model.stream(asked, temperature=0):
                    if isinstance(chunk, Start):
                        break
        assert (await model.stream(prompt, temperature=0, max_tokens=30)).text == expected


@pytest.mark.parametrize("name", ["tiny/onnx", "tiny/llama"])
async def test_paused_streams_answer_as_undisturbed_ones(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if name == "tiny/llama":
        pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")
    monkeypatch.setattr(runner, "PAUSED_SECONDS", 0.01)
    model: Any = rxllm.model(name, slots=2)
    prompts = [f"Tell me a story about {each}" for each in ("a fox", "an owl", "a robot", "rain")]
    alone = [(await model.stream(each, temperature=0, max_tokens=40)).text for each in prompts]
    stops = [3, 9, 14, 20]

    async def read(prompt: str, stop: int) -> str:
        said = ""
        tokens = 0
        valve = Valve()
        done = asyncio.Event()

        def on_next(chunk: Chunk) -> None:
            nonlocal said, tokens
            if isinstance(chunk, Token):
                said += chunk.text
                tokens += 1
                if tokens == stop:
                    valve.close()

        scheduler = StreamScheduler(asyncio.get_running_loop(), valve)
        stream = model.stream(prompt, temperature=0, max_tokens=40)
        subscription = stream.subscribe(on_next, on_completed=done.set, scheduler=scheduler)
        while valve.is_open and not done.is_set():
            await asyncio.sleep(0.001)
        for _ in range(20):
            await asyncio.sleep(0.005)
        valve.open()
        await done.wait()
        subscription.dispose()
        return said

    answers = await asyncio.gather(*map(read, prompts, stops))
    assert answers == alone
