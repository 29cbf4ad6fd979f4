"""Convert streams to the events of OpenAI's Responses API.

Source: https://platform.openai.com/docs/api-reference/responses-streaming.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Final

from rxllm.chunks import Citation, FileOutput, FinishReason, ProviderState, ToolCall, Usage
from rxllm.web.blocks import BlockWriter, OpenCall
from rxllm.web.carried_states import state_text
from rxllm.web.encoding import to_json
from rxllm.web.stream_messages import Complete, StreamFailed
from rxllm.web.stream_store import Frame
from rxllm.web.wire import EVENT_STREAM, WireFormat

__all__ = ["OPENAI_RESPONSES_WIRE", "ResponsesWriter", "response_object"]

_PER_POSITION: Final = 1_000_000
"""Sequence numbers for each position in the stream: more than the events of any frame."""

_CODES: Final = {
    "budget_spent": "insufficient_quota",
    "context_length": "context_length_exceeded",
    "rate_limit": "rate_limit_exceeded",
}
_INCOMPLETE: Final[dict[FinishReason | None, str]] = {
    "length": "max_output_tokens",
    "limit": "max_output_tokens",
    "content_filter": "content_filter",
}


def response_object(
    response_id: str, model: str, created: float, echoed: Mapping[str, Any]
) -> dict[str, Any]:
    """Return a response that has just begun. `echoed` are fields of the request."""
    return {
        "id": response_id,
        "object": "response",
        "created_at": created,
        "completed_at": None,
        "status": "in_progress",
        "model": model,
        "output": [],
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "metadata": {},
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "temperature": None,
        "top_p": None,
        "usage": None,
        **echoed,
    }


class ResponsesWriter(BlockWriter):
    """Writes one stream as the events of a response.

    Each text, thinking block, call and image is an item of the output. Thinking is a summary, and
    the state of a provider its `encrypted_content`; that of a text or a call is a reasoning item of
    its own, which the client sends back. A restart after the first item is an `error` event. The
    sequence numbers rise, with gaps, since they are made from positions in the stream: a client can
    resume after any of them, if both readings are exact (see `StreamStore.read`).

    Args:
        stream_id, model, runs_tools: as in `BlockWriter`.
        created: when the response was created, in Unix seconds; now if `None`.
        echoed: fields of the request that are part of the response.
        after: the sequence number after which the client resumes; -1 for all events.
        is_whole: whether only the response is read, and no event: then a restart takes back the
            items of the answer under way.
    """

    def __init__(
        self,
        stream_id: str,
        *,
        model: str | None = None,
        runs_tools: bool = False,
        created: float | None = None,
        echoed: Mapping[str, Any] | None = None,
        after: int = -1,
        is_whole: bool = False,
    ) -> None:
        super().__init__(stream_id, model=model, runs_tools=runs_tools)
        self.restarts = is_whole
        self.response: dict[str, Any] = {}
        self._created = time.time() if created is None else created
        self._echoed = echoed or {}
        self._after = after
        self._sequence = 0
        self._items: dict[int, dict[str, Any]] = {}  # those that are done, by index
        self._annotations: list[dict[str, Any]] = []
        self._item_id = ""
        self._around_text: tuple[bytes, bytes] | None = None

    def __call__(self, frame: Frame) -> bytes:
        self._sequence = frame.position * _PER_POSITION
        return super().__call__(frame)

    def so_far(self) -> dict[str, Any]:
        """Return the response with the items that are complete."""
        begun = self.response or response_object(
            self.stream_id, self.model, self._created, self._echoed
        )
        return begun if begun["status"] != "in_progress" else {**begun, "output": self._output()}

    def begin(self) -> None:
        self.response = response_object(self.stream_id, self.model, self._created, self._echoed)
        for kind in ("response.created", "response.in_progress"):
            self._event(kind, response=self.response)

    def open_text(self) -> None:
        self._item_id = f"msg_{self.stream_id.removeprefix('resp_')}_{self.blocks}"
        self._annotations, self._around_text = [], None
        item = _message(self._item_id, "in_progress", [])
        self._event("response.output_item.added", output_index=self.blocks, item=item)
        self._event(
            "response.content_part.added",
            **self._place(self.blocks),
            content_index=0,
            part={"type": "output_text", "text": "", "annotations": []},
        )

    def text(self, text: str) -> None:
        if self._around_text is None:
            head = {"type": "response.output_text.delta", **self._place(), "content_index": 0}
            data = to_json({**head, "logprobs": []})[:-1]
            self._around_text = (
                b"event: response.output_text.delta\ndata: " + data + b',"sequence_number":',
                b',"delta":',
            )
        begin, middle = self._around_text
        number = self._next_number()
        if number > self._after:
            self.emit(b"%b%d%b%b}\n\n" % (begin, number, middle, to_json(text)))

    def close_text(self, state: ProviderState | None) -> None:
        text, place = "".join(self.block_text), {**self._place(), "content_index": 0}
        part = {"type": "output_text", "text": text, "annotations": self._annotations}
        self._event("response.output_text.done", **place, text=text, logprobs=[])
        self._event("response.content_part.done", **place, part=part)
        self._item_done(self.block, _message(self._item_id, "completed", [part]))
        if state is not None:
            self._carry(state_text(state, "text"))

    def open_reasoning(self) -> None:
        self._item_id = f"rs_{self.stream_id.removeprefix('resp_')}_{self.blocks}"
        item = {"id": self._item_id, "type": "reasoning", "summary": []}
        self._event("response.output_item.added", output_index=self.blocks, item=item)
        self._event(
            "response.reasoning_summary_part.added",
            **self._place(self.blocks),
            summary_index=0,
            part={"type": "summary_text", "text": ""},
        )

    def reasoning(self, text: str) -> None:
        self._event(
            "response.reasoning_summary_text.delta", **self._place(), summary_index=0, delta=text
        )

    def close_reasoning(self, state: ProviderState | None) -> None:
        text, place = "".join(self.block_text), {**self._place(), "summary_index": 0}
        part = {"type": "summary_text", "text": text}
        self._event("response.reasoning_summary_text.done", **place, text=text)
        self._event("response.reasoning_summary_part.done", **place, part=part)
        item: dict[str, Any] = {"id": self._item_id, "type": "reasoning", "summary": [part]}
        if state is not None:
            item["encrypted_content"] = state_text(state)
        self._item_done(self.block, item)

    def open_call(self, opened: OpenCall) -> None:
        item = self._function_call(opened, "in_progress")
        item["arguments"] = ""
        self._event("response.output_item.added", output_index=opened.block, item=item)

    def arguments(self, opened: OpenCall, more: str) -> None:
        self._event(
            "response.function_call_arguments.delta",
            item_id=self._call_id(opened),
            output_index=opened.block,
            delta=more,
        )

    def close_call(self, opened: OpenCall) -> None:
        self._event(
            "response.function_call_arguments.done",
            item_id=self._call_id(opened),
            output_index=opened.block,
            name=opened.call.name,
            arguments=opened.call.arguments,
        )
        self._item_done(opened.block, self._function_call(opened, "completed"))
        if opened.call.state is not None:
            self._carry(state_text(opened.call.state, "call", opened.call.id))

    def citation(self, citation: Citation) -> None:
        if not self.is_in_text:
            return  # an annotation is part of a text
        annotation = {
            "type": "url_citation",
            "url": citation.url or "",
            "title": citation.title or "",
            "start_index": citation.start or 0,
            "end_index": citation.end or 0,
        }
        self._event(
            "response.output_text.annotation.added",
            **self._place(),
            content_index=0,
            annotation_index=len(self._annotations),
            annotation=annotation,
        )
        self._annotations.append(annotation)

    def restart(self) -> None:
        self.blocks = self.blocks_before
        self._items = {at: item for at, item in self._items.items() if at < self.blocks}

    def file(self, file: FileOutput) -> None:
        if file.data is None or not file.media_type.startswith("image/"):
            return  # this format has only images, with their data
        self.close()
        item = {
            "id": f"ig_{self.stream_id.removeprefix('resp_')}_{self.blocks}",
            "type": "image_generation_call",
            "status": "completed",
            "result": file.data,
            "output_format": file.media_type.removeprefix("image/"),
        }
        self._added({**item, "status": "in_progress", "result": None}, item)

    def finish(self, message: Complete) -> None:
        reason = _INCOMPLETE.get(message.finish_reason)
        self._conclude(
            "incomplete" if reason is not None else "completed",
            completed_at=self._created + message.seconds,
            incomplete_details=None if reason is None else {"reason": reason},
            usage=_usage(message.usage, message.tokens),
        )

    def fail(self, message: StreamFailed) -> None:
        code = _CODES.get(message.code, message.code)
        if not self.response:
            self.begin()
        status = "cancelled" if message.code == "cancelled" else "failed"
        error = {"code": code, "message": message.message}
        if message.code == "restarted_stream":
            self.response = {**self.response, "status": status, "error": error}
            self._event("error", **error, param=message.field)
        else:
            self._conclude("failed", status=status, error=error)

    def _conclude(self, kind: str, **fields: Any) -> None:
        self.response = {
            **self.response,
            "status": kind,
            "output": self._output(),
            **fields,
        }
        self._event(f"response.{kind}", response=self.response)

    def _output(self) -> list[dict[str, Any]]:
        return [self._items[index] for index in sorted(self._items)]

    def _place(self, block: int | None = None) -> dict[str, Any]:
        index = self.block if block is None else block
        return {"item_id": self._item_id, "output_index": index}

    def _function_call(self, opened: OpenCall, status: str) -> dict[str, Any]:
        return {
            "id": self._call_id(opened),
            "type": "function_call",
            "status": status,
            **_called(opened.call),
        }

    def _call_id(self, opened: OpenCall) -> str:
        return f"fc_{self.stream_id.removeprefix('resp_')}_{opened.block}"

    def _carry(self, text: str) -> None:
        item = {
            "id": f"rs_{self.stream_id.removeprefix('resp_')}_{self.blocks}",
            "type": "reasoning",
            "summary": [],
        }
        self._added(item, {**item, "encrypted_content": text})

    def _added(self, begun: dict[str, Any], item: dict[str, Any]) -> None:
        """Send a whole item at once."""
        self._event("response.output_item.added", output_index=self.blocks, item=begun)
        self.blocks += 1
        self._item_done(self.blocks - 1, item)

    def _item_done(self, block: int, item: dict[str, Any]) -> None:
        self._items[block] = item
        self._event("response.output_item.done", output_index=block, item=item)

    def _next_number(self) -> int:
        number = self._sequence
        self._sequence += 1
        return number

    def _event(self, kind: str, **fields: Any) -> None:
        number = self._next_number()
        if number > self._after:
            data = to_json({"type": kind, "sequence_number": number, **fields})
            self.emit(b"event: %b\ndata: %b\n\n" % (kind.encode(), data))


OPENAI_RESPONSES_WIRE: Final = WireFormat("openai_responses", EVENT_STREAM, ResponsesWriter)


def _message(item_id: str, status: str, content: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "id": item_id,
        "type": "message",
        "status": status,
        "role": "assistant",
        "content": content,
    }


def _called(call: ToolCall) -> dict[str, Any]:
    return {"call_id": call.id, "name": call.name, "arguments": call.arguments}


def _usage(usage: Usage | None, tokens: int) -> dict[str, Any]:
    given = Usage(0, tokens) if usage is None else usage
    return {
        "input_tokens": given.input_tokens,
        "input_tokens_details": {
            "cached_tokens": given.cached_tokens or 0,
            "cache_write_tokens": given.cache_write_tokens or 0,
        },
        "output_tokens": given.output_tokens,
        "output_tokens_details": {"reasoning_tokens": given.reasoning_tokens or 0},
        "total_tokens": given.input_tokens + given.output_tokens,
    }
