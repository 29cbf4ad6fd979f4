"""A chat completions server in a separate process, so that its CPU time isn't measured.

`python -m tests.benchmarks.chat_server` prints its address and serves until its input ends. The
base URL `<address>/2000/16` answers with 2,000 tokens, sixteen events per write. It waits before
each write, so that the client has read the previous one.
"""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

WORD = "word%d "
WAIT = 0.0003
"""Seconds; several times as long as a client takes for one event."""


def text_of(tokens: int) -> str:
    """Return the text of an answer of `tokens` tokens."""
    return "".join(WORD % number for number in range(tokens))


def completion_events(tokens: int) -> list[bytes]:
    """Return the events of a chat completion of `tokens` tokens, as OpenAI sends them."""
    form = (
        b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1700000000,'
        b'"model":"gpt","choices":[{"index":0,"delta":%b,"finish_reason":%b}]}\n\n'
    )
    words = [form % (b'{"content":"%b"}' % (WORD % n).encode(), b"null") for n in range(tokens)]
    first = form % (b'{"role":"assistant","content":""}', b"null")
    return [first, *words, form % (b"{}", b'"stop"'), b"data: [DONE]\n\n"]


def writes_of(tokens: int, events_per_write: int) -> list[bytes]:
    """Return the same, grouped into writes: the first event alone, the last two together."""
    first, *words, reason, done = completion_events(tokens)
    starts = range(0, len(words), events_per_write)
    return [first, *(b"".join(words[n : n + events_per_write]) for n in starts), reason + done]


@contextmanager
def chat_server() -> Iterator[str]:
    """Start a server, and yield its address."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.benchmarks.chat_server"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        yield server.stdout.readline().strip()
        server.stdin.close()


class _Handler(BaseHTTPRequestHandler):
    """Answers each request with a chunked body, and keeps the connection open."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        tokens, events_per_write = (int(part) for part in self.path.split("/")[1:3])
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for data in writes_of(tokens, events_per_write):
            time.sleep(WAIT)
            self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))
        self.wfile.write(b"0\r\n\r\n")

    def log_message(self, *_: object) -> None:
        """Log nothing."""


def main() -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(f"http://127.0.0.1:{server.server_address[1]}", flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
