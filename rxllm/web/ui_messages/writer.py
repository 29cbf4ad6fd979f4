"""Convert streams to the UI message stream of the AI SDK, version 1 of the protocol.

Source: https://ai-sdk.dev/docs/ai-sdk-ui/stream-protocol, and the schema of the package `ai` 7.0
(`ui-message-chunks.ts`).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar, Final

import msgspec

from rxllm.chunks import (
    ApprovalRequest,
    Chunk,
    Citation,
    FileOutput,
    FinishReason,
    Json,
    Notice,
    Progress,
    ProviderState,
    Steering,
    ToolResult,
)
from rxllm.web.blocks import BlockWriter, OpenCall, call_input
from rxllm.web.carried_states import state_text
from rxllm.web.encoding import to_json
from rxllm.web.stream_messages import Complete, StreamFailed
from rxllm.web.wire import EVENT_STREAM, WireFormat
from rxllm.wire_names import EXTENSION

__all__ = ["UI_MESSAGES_WIRE", "UIMessageWriter"]

_FINISH_REASONS: Final[dict[FinishReason | None, str]] = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool-calls",
    "content_filter": "content-filter",
    "limit": "other",
}
_DENIED: Final = "DeniedError"


class UIMessageWriter(BlockWriter):
    """Writes one stream as the parts of a UI message.

    Each answer of a run is a step, and a restart resets it. The states of providers are in
    `providerMetadata`, which the client sends back. Notices, progress, nested runs and JSON so far
    are transient data parts (`data-notice`, `data-progress`, `data-nested`, `data-json`); the usage
    is in the metadata of the message.

    Args:
        stream_id, model: as in `BlockWriter`. Calls are sent as they come, with their results.
        message_id: the id of the message; that of the stream if `None`.
        call_ids: the calls of a message that goes on, whose results may come.
    """

    restarts = True
    cancels: ClassVar[bool] = True

    def __init__(
        self,
        stream_id: str,
        *,
        model: str | None = None,
        message_id: str | None = None,
        call_ids: Iterable[str] = (),
    ) -> None:
        super().__init__(stream_id, model=model)
        self._message_id = message_id or stream_id
        self._cited = 0
        self._answerable = set(call_ids)  # the ids of the calls that the client knows
        self._around_text: tuple[bytes, bytes] | None = None

    def begin(self) -> None:
        metadata = {"model": self.model} if self.model else {}
        self._part("start", messageId=self._message_id, messageMetadata=metadata)

    def step_begun(self) -> None:
        self._part("start-step")

    def step_ended(self) -> None:
        self._part("finish-step")

    def json(self, value: Json) -> None:
        data = msgspec.to_builtins(value.value)
        self._part("data-json", id="json", data=data, transient=True)

    def open_text(self) -> None:
        self._around_text = None
        self._part("text-start", id=str(self.block))

    def text(self, text: str) -> None:
        if self._around_text is None:
            head = to_json({"type": "text-delta", "id": str(self.block)})[:-1]
            self._around_text = b"data: " + head + b',"delta":', b"}\n\n"
        head, tail = self._around_text
        self.emit(head + to_json(text) + tail)

    def close_text(self, state: ProviderState | None) -> None:
        self._part("text-end", id=str(self.block), **_metadata(state))

    def open_reasoning(self) -> None:
        self._part("reasoning-start", id=str(self.block))

    def reasoning(self, text: str) -> None:
        self._part("reasoning-delta", id=str(self.block), delta=text)

    def close_reasoning(self, state: ProviderState | None) -> None:
        self._part("reasoning-end", id=str(self.block), **_metadata(state))

    def open_call(self, opened: OpenCall) -> None:
        call = opened.call
        self._answerable.add(call.id)
        self._part("tool-input-start", toolCallId=call.id, toolName=call.name)

    def arguments(self, opened: OpenCall, more: str) -> None:
        self._part("tool-input-delta", toolCallId=opened.call.id, inputTextDelta=more)

    def close_call(self, opened: OpenCall) -> None:
        call = opened.call
        named = {"toolCallId": call.id, "toolName": call.name}
        try:
            given = call_input(call)
        except ValueError as error:
            self._answerable.discard(call.id)
            text = f"the arguments aren't valid JSON: {error}"
            self._part("tool-input-error", **named, input=call.arguments, errorText=text)
            return
        self._part("tool-input-available", **named, input=given, **_metadata(call.state))

    def result(self, result: ToolResult) -> None:
        if result.id not in self._answerable:
            return  # the client throws for a call that it doesn't know
        if result.error is None:
            interim = {"preliminary": True} if result.preliminary else {}
            output = msgspec.to_builtins(result.output)
            self._part("tool-output-available", toolCallId=result.id, output=output, **interim)
        elif result.error.type == _DENIED:
            self._part("tool-output-denied", toolCallId=result.id)
        else:
            text = result.error.message
            self._part("tool-output-error", toolCallId=result.id, errorText=text)

    def approval(self, request: ApprovalRequest) -> None:
        if request.id in self._answerable:
            reason = {} if request.reason is None else {"reason": request.reason}
            named = {"approvalId": request.token, "toolCallId": request.id}
            self._part("tool-approval-request", **named, **reason)

    def steering(self, steering: Steering) -> None:
        parts = [{"type": "text", "text": steering.text}]
        self._part("steering-message", id=self.steering_id(steering), parts=parts)

    def citation(self, citation: Citation) -> None:
        self._cited += 1
        named = {"sourceId": f"source-{self._cited}"}
        if citation.url is not None:
            title = {} if citation.title is None else {"title": citation.title}
            self._part("source-url", **named, url=citation.url, **title)
        else:
            title = {"title": citation.title or citation.text or ""}
            self._part("source-document", **named, mediaType="text/plain", **title)

    def file(self, file: FileOutput) -> None:
        url = file.url or f"data:{file.media_type};base64,{file.data or ''}"
        self._part("file", url=url, mediaType=file.media_type)

    def notice(self, notice: Notice) -> None:
        self._transient("notice", notice)

    def progress(self, progress: Progress) -> None:
        self._transient("progress", progress)

    def nested(self, chunk: Chunk) -> None:
        self._transient("nested", chunk)

    def restart(self) -> None:
        self._part("reset-step")

    def finish(self, message: Complete) -> None:
        if self.is_in_step:
            self.step_ended()
        if message.finish_reason == "cancelled":
            self._part("abort", reason="the stream was cancelled")
        else:
            usage = {} if message.usage is None else {"usage": msgspec.to_builtins(message.usage)}
            reason = _FINISH_REASONS.get(message.finish_reason, "other")
            self._part("finish", finishReason=reason, messageMetadata=usage)
        self.emit(b"data: [DONE]\n\n")

    def fail(self, message: StreamFailed) -> None:
        self._part("error", errorText=message.message)
        self.emit(b"data: [DONE]\n\n")

    def _transient(self, name: str, chunk: Chunk) -> None:
        self._part(f"data-{name}", data=msgspec.to_builtins(chunk), transient=True)

    def _part(self, kind: str, **fields: Any) -> None:
        self.emit(b"data: %b\n\n" % to_json({"type": kind, **fields}))


UI_MESSAGES_WIRE: Final = WireFormat(
    "ui_messages",
    EVENT_STREAM,
    UIMessageWriter,
    headers={"x-vercel-ai-ui-message-stream": "v1"},
)


def _metadata(state: ProviderState | None) -> dict[str, Any]:
    return {} if state is None else {"providerMetadata": {EXTENSION: {"state": state_text(state)}}}
