"""`for` over a stream: one background loop per process, at exit, after a fork, on Ctrl-C."""

from __future__ import annotations

import asyncio
import gc
import os
import queue
import subprocess
import sys
import textwrap
import threading
import types
from typing import Any

import pytest

import rxllm
from rxllm.background import BACKGROUND_THREAD, BackgroundLoop, background_loop, loop_factory
from rxllm.errors import StreamCancelledError
from rxllm.models.scripted import ScriptedModel

STORY = ["Once", " upon", " a", " time"]


def run_program(source: str, *, code: int = 0) -> list[str]:
    """Return the lines that a program prints."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(source)], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr if code == 0 else "") == (code, "")
    return done.stdout.splitlines()


def test_all_readers_share_one_loop_and_its_thread() -> None:
    threads: set[str] = set()

    def note(_: object) -> None:
        threads.add(threading.current_thread().name)

    for _ in range(2):
        list(ScriptedModel(STORY).stream("Hi").pipe(rxllm.operators.measure(note)))
    assert threads == {"rxllm background"}
    assert background_loop() is background_loop()


def test_its_thread_does_not_keep_the_process_alive() -> None:
    background_loop()
    threads = [each for each in threading.enumerate() if each.name == BACKGROUND_THREAD]
    assert [each.daemon for each in threads] == [True]


def test_closing_cancels_its_tasks_and_ends_its_thread() -> None:
    cancelled = threading.Event()

    async def wait() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    before = set(threading.enumerate())
    background = BackgroundLoop()
    asyncio.run_coroutine_threadsafe(wait(), background.loop)
    background.close()
    assert cancelled.is_set()
    assert background.loop.is_closed()
    assert set(threading.enumerate()) <= before


def test_a_loop_that_fails_to_start_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise the first reader would wait for ever."""
    raised = queue.SimpleQueue[type[BaseException] | None]()

    def fail() -> asyncio.AbstractEventLoop:
        raise OSError("too many open files")

    monkeypatch.setattr("rxllm.background.loop_factory", lambda: fail)
    monkeypatch.setattr(threading, "excepthook", lambda args: raised.put(args.exc_type))
    with pytest.raises(RuntimeError, match=r"^the background event loop could not be started;"):
        BackgroundLoop()
    assert raised.get(timeout=30) is OSError


def test_uvloop_is_used_if_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    uvloop: Any = types.ModuleType("uvloop")
    uvloop.new_event_loop = asyncio.new_event_loop
    monkeypatch.setitem(sys.modules, "uvloop", uvloop)
    assert loop_factory() is uvloop.new_event_loop
    monkeypatch.setitem(sys.modules, "uvloop", None)
    assert loop_factory() is None


def test_the_loop_body_runs_on_the_callers_thread() -> None:
    for _ in ScriptedModel(STORY).stream("Hi"):
        assert threading.current_thread() is threading.main_thread()


def test_many_threads_can_read_at_once() -> None:
    texts: list[str] = []

    def read() -> None:
        chunks = ScriptedModel(STORY, delay=0.001).stream("Hi")
        texts.append("".join(chunk.text for chunk in chunks if isinstance(chunk, rxllm.Token)))

    threads = [threading.Thread(target=read) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert texts == ["Once upon a time"] * 10


def test_an_iterator_collected_on_the_background_thread_does_not_wait_for_itself() -> None:
    model = ScriptedModel(STORY, delay=60)
    iterator: Any = iter(model.stream("Hi"))
    next(iterator)
    held = [iterator]
    del iterator

    async def collect() -> None:
        held.clear()
        gc.collect()

    asyncio.run_coroutine_threadsafe(collect(), background_loop().loop).result(60)
    asyncio.run_coroutine_threadsafe(asyncio.sleep(0), background_loop().loop).result(60)
    assert model.cancelled == 1


def test_live_streams_are_stopped_at_exit() -> None:
    assert run_program(
        """
        import asyncio, rxllm

        async def source():
            try:
                while True:
                    yield "x"
                    await asyncio.sleep(0.001)
            finally:
                print("cleaned up", flush=True)

        iterator = iter(rxllm.from_async(source))
        print(next(iterator))
        """
    ) == ["x", "cleaned up"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="requires os.fork")
def test_a_fork_has_its_own_loop() -> None:
    assert run_program(
        """
        import os, rxllm
        from rxllm.models.scripted import ScriptedModel

        def read():
            return len(list(ScriptedModel("Hi").stream("Hi")))

        print(read(), flush=True)
        child = os.fork()
        if child == 0:
            print(read(), flush=True)
            os._exit(0)
        os.waitpid(child, 0)
        print(read(), flush=True)
        """
    ) == ["4", "4", "4"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="requires os.fork")
def test_a_process_may_fork_before_it_reads() -> None:
    assert run_program(
        """
        import os, rxllm, rxllm.background
        from rxllm.models.scripted import ScriptedModel

        child = os.fork()
        if child == 0:
            print(len(list(ScriptedModel("Hi").stream("Hi"))), flush=True)
            os._exit(0)
        os.waitpid(child, 0)
        """
    ) == ["4"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="requires os.fork")
def test_a_parents_stream_fails_in_a_fork_and_continues_in_the_parent() -> None:
    assert run_program(
        """
        import os, rxllm
        from rxllm.models.scripted import ScriptedModel

        iterator = iter(ScriptedModel(["a", "b"]).stream("Hi"))
        next(iterator)
        child = os.fork()
        if child == 0:
            try:
                next(iterator)
            except rxllm.errors.StreamCancelledError as error:
                print(error, flush=True)
            os._exit(0)
        os.waitpid(child, 0)
        print(len(list(iterator)), flush=True)
        """
    ) == ["a running stream can't be read in a forked process", "4"]


def test_ctrl_c_stops_the_model_and_is_raised() -> None:
    assert run_program(
        """
        import signal, rxllm
        from rxllm.models.scripted import ScriptedModel

        signal.signal(signal.SIGINT, signal.default_int_handler)
        model = ScriptedModel(["a", "b"], delay=60, first_delay=0)
        try:
            for chunk in model.stream("Hi"):
                if isinstance(chunk, rxllm.Token):
                    signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            print("interrupted", model.cancelled)
        """
    ) == ["interrupted 1"]


def test_ctrl_c_interrupts_waiting_for_a_chunk() -> None:
    assert run_program(
        """
        import signal, threading, time, rxllm
        from rxllm.models.scripted import ScriptedModel

        def on_signal(*_):
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            raise KeyboardInterrupt

        signal.signal(signal.SIGINT, on_signal)
        model = ScriptedModel(["a"], delay=60)

        def interrupt():
            while not model.active:
                time.sleep(0.001)
            while model.active:  # Python misses a signal that comes just before it starts to wait
                signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
                time.sleep(0.01)

        threading.Thread(target=interrupt).start()
        try:
            for chunk in model.stream("Hi"):
                pass
        except KeyboardInterrupt:
            print("interrupted", model.cancelled)
        """
    ) == ["interrupted 1"]


def test_a_stream_cancelled_from_outside_raises_and_does_not_hang() -> None:
    async def source() -> Any:
        yield 1
        raise asyncio.CancelledError

    iterator = iter(rxllm.from_async(source))
    assert next(iterator) == 1
    with pytest.raises(StreamCancelledError):
        next(iterator)
