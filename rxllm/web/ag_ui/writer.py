"""Convert streams to the events of AG-UI, version 1.0 of the protocol.

Source: https://docs.ag-ui.com/concepts/events, and the rules of its client (`verify.ts`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Final

import msgspec

from rxllm.chunks import (
    ApprovalRequest,
    Chunk,
    Citation,
    FileOutput,
    Json,
    Notice,
    Progress,
    ProviderState,
    Reasoning,
    Steering,
    Token,
    ToolResult,
    Usage,
)
from rxllm.web.blocks import BlockWriter, OpenCall
from rxllm.web.carried_states import state_text
from rxllm.web.encoding import to_json
from rxllm.web.stream_messages import Complete, StreamFailed
from rxllm.web.wire import EVENT_STREAM, WireFormat

__all__ = ["AG_UI_WIRE", "AGUIWriter"]


_APPROVAL: Final = {
    "type": "object",
    "properties": {"approved": {"type": "boolean"}, "reason": {"type": "string"}},
    "required": ["approved"],
}
"""What the answer to an interrupt must be: whether the call may run, and if not, why."""


class AGUIWriter(BlockWriter):
    """Writes one stream as the events of a run.

    Each answer is a step. A restart closes what is open and sends a `MESSAGES_SNAPSHOT` without
    what was withdrawn. A run inside of a call is a subagent, whose text is sent with its
    `subagentRunId`. Citations, files, JSON so far, notices and progress are `CUSTOM` events with
    the name of their chunk.

    Args:
        stream_id, model: as in `BlockWriter`. Calls are sent as they come, with their results.
        thread_id, run_id: those of the request; the id of the stream if `None`.
        messages: the messages of the request, in the format of AG-UI, for snapshots.
    """

    restarts = True
    cancels: ClassVar[bool] = True

    def __init__(
        self,
        stream_id: str,
        *,
        model: str | None = None,
        thread_id: str | None = None,
        run_id: str | None = None,
        messages: Iterable[Mapping[str, Any]] = (),
    ) -> None:
        super().__init__(stream_id, model=model)
        self._run = {"threadId": thread_id or stream_id, "runId": run_id or stream_id}
        self._messages = [dict(each) for each in messages]
        self._said: list[dict[str, Any]] = []  # the messages of the answer
        self._step_name: str | None = None
        self._steps = 0
        self._message_id = ""
        self._message: dict[str, Any] = {}
        self._calls_of: dict[str, Any] | None = None  # the message that has the calls
        self._open_calls: dict[str, OpenCall] = {}
        self._interrupts: list[dict[str, Any]] = []
        self._subagents: dict[str, dict[str, Any] | None] = {}  # ids, and their open messages
        self._names: dict[str, str] = {}  # of the tools, by the ids of their calls

    def begin(self) -> None:
        self._event("RUN_STARTED", **self._run)

    def step_begun(self) -> None:
        self._steps += 1
        self._step_name = f"step {self._steps}"
        self._event("STEP_STARTED", stepName=self._step_name)

    def step_ended(self) -> None:
        if self._step_name is not None:
            self._event("STEP_FINISHED", stepName=self._step_name)
            self._step_name = None
        self._messages += self._said
        self._said, self._calls_of = [], None

    def open_text(self) -> None:
        self._new_message("assistant")
        self._event("TEXT_MESSAGE_START", messageId=self._message_id, role="assistant")

    def text(self, text: str) -> None:
        self._message["content"] += text
        self._event("TEXT_MESSAGE_CONTENT", messageId=self._message_id, delta=text)

    def close_text(self, state: ProviderState | None) -> None:
        self._event("TEXT_MESSAGE_END", messageId=self._message_id)
        self._state(state, "text")

    def open_reasoning(self) -> None:
        self._new_message("reasoning")
        self._event("REASONING_START", messageId=self._message_id)
        self._event("REASONING_MESSAGE_START", messageId=self._message_id, role="reasoning")

    def reasoning(self, text: str) -> None:
        self._message["content"] += text
        self._event("REASONING_MESSAGE_CONTENT", messageId=self._message_id, delta=text)

    def close_reasoning(self, state: ProviderState | None) -> None:
        self._event("REASONING_MESSAGE_END", messageId=self._message_id)
        self._event("REASONING_END", messageId=self._message_id)
        self._state(state, "reasoning")

    def open_call(self, opened: OpenCall) -> None:
        call = opened.call
        self._names[call.id] = call.name
        if self._calls_of is None:
            last = self._said[-1] if self._said else None
            if last is None or last["role"] != "assistant":
                self._new_message("assistant")
                last = self._message
            self._calls_of = last
        self._open_calls[call.id] = opened
        named = {"toolCallId": call.id, "toolCallName": call.name}
        self._event("TOOL_CALL_START", **named, parentMessageId=self._calls_of["id"])

    def arguments(self, opened: OpenCall, more: str) -> None:
        self._event("TOOL_CALL_ARGS", toolCallId=opened.call.id, delta=more)

    def close_call(self, opened: OpenCall) -> None:
        call = opened.call
        self._open_calls.pop(call.id, None)
        self._event("TOOL_CALL_END", toolCallId=call.id)
        function = {"name": call.name, "arguments": call.arguments}
        listed: dict[str, Any] = {"id": call.id, "type": "function", "function": function}
        if call.state is not None:
            listed["encryptedValue"] = state_text(call.state)
            self._encrypted("tool-call", call.id, listed["encryptedValue"])
        if self._calls_of is not None:
            self._calls_of.setdefault("toolCalls", []).append(listed)

    def result(self, result: ToolResult) -> None:
        if result.preliminary:
            content = {"toolCallId": result.id, "output": msgspec.to_builtins(result.output)}
            self._event(
                "ACTIVITY_SNAPSHOT",
                messageId=f"activity-{result.id}",
                activityType="tool",
                content=content,
                replace=True,
            )
            return
        self._end_subagent(result.id)
        text = result.error.message if result.error is not None else _text_of(result.output)
        message_id = f"result-{result.id}"
        named = {"toolCallId": result.id, "content": text, "role": "tool"}
        self._event("TOOL_CALL_RESULT", messageId=message_id, **named)
        self._messages.append({"id": message_id, **named})

    def approval(self, request: ApprovalRequest) -> None:
        reason = {} if request.reason is None else {"message": request.reason}
        interrupt = {"id": request.token, "reason": "tool_call", "toolCallId": request.id}
        self._interrupts.append({**interrupt, **reason, "responseSchema": _APPROVAL})

    def steering(self, steering: Steering) -> None:
        said = {"role": "user", "content": steering.text}
        self._messages.append({"id": self.steering_id(steering), **said})
        self._snapshot()

    def citation(self, citation: Citation) -> None:
        self._custom("citation", citation)

    def file(self, file: FileOutput) -> None:
        self._custom("file", file)

    def notice(self, notice: Notice) -> None:
        self._begun_custom("notice", notice)

    def progress(self, progress: Progress) -> None:
        self._begun_custom("progress", progress)

    def nested(self, chunk: Chunk) -> None:
        name, _, _ = (chunk.source or "").partition("/")
        if name not in self._subagents:
            self._subagents[name] = None
            tool = self._names.get(name, name)
            named = {"subagentRunId": name, "name": tool, "parentToolCallId": name}
            self._event("SUBAGENT_STARTED", **named)
        text = chunk.text if isinstance(chunk, Token) else ""
        if not text or isinstance(chunk, Reasoning):
            return
        message = self._subagents[name]
        if message is None:
            named = {"role": "assistant", "subagentRunId": name}
            message = {"id": f"{self.stream_id}-{name}", **named, "content": ""}
            self._subagents[name] = message
            self._messages.append(message)
            self._event("TEXT_MESSAGE_START", messageId=message["id"], **named)
        message["content"] += text
        named = {"messageId": message["id"], "subagentRunId": name}
        self._event("TEXT_MESSAGE_CONTENT", **named, delta=text)

    def json(self, value: Json) -> None:
        self._custom("json", value)

    def withdraw(self) -> None:
        self.close()
        for name in list(self._subagents):
            self._end_subagent(name)
        for call_id in self._open_calls:
            self._event("TOOL_CALL_END", toolCallId=call_id)
        self._open_calls = {}

    def restart(self) -> None:
        withdrawn = [each for each in self._said if each["role"] == "reasoning"]
        if withdrawn and all(each["role"] != "reasoning" for each in self._messages):
            # The client keeps its thinking if a snapshot has none at all.
            self._messages.append({**withdrawn[0], "content": ""})
        self._said, self._calls_of = [], None
        self._snapshot()

    def finish(self, message: Complete) -> None:
        for name in list(self._subagents):
            self._end_subagent(name)
        self.step_ended()
        outcome: dict[str, Any] = {"type": "success"}
        if message.finish_reason == "cancelled":
            outcome = {"type": "cancelled"}
        elif self._interrupts:
            outcome = {"type": "interrupt", "interrupts": self._interrupts}
            self._snapshot()
        usage = [] if message.usage is None else [_usage(message.usage, self.model)]
        self._event("RUN_FINISHED", **self._run, outcome=outcome, usage=usage)

    def fail(self, message: StreamFailed) -> None:
        if not self.has_begun:
            self.begin()
        self._event("RUN_ERROR", message=message.message, code=message.code)

    def _new_message(self, role: str) -> None:
        self._message_id = f"{self.stream_id}-{self.blocks}"
        self._message = {"id": self._message_id, "role": role, "content": ""}
        self._said.append(self._message)
        self._calls_of = None

    def _state(self, state: ProviderState | None, owner: Any) -> None:
        if state is not None:
            value = self._message["encryptedValue"] = state_text(state, owner)
            self._encrypted("message", self._message_id, value)

    def _encrypted(self, subtype: str, entity: str, value: str) -> None:
        named = {"subtype": subtype, "entityId": entity, "encryptedValue": value}
        self._event("REASONING_ENCRYPTED_VALUE", **named)

    def _end_subagent(self, name: str) -> None:
        if name in self._subagents:
            message = self._subagents.pop(name)
            if message is not None:
                self._event("TEXT_MESSAGE_END", messageId=message["id"], subagentRunId=name)
            self._event("SUBAGENT_FINISHED", subagentRunId=name)

    def _snapshot(self) -> None:
        self._event("MESSAGES_SNAPSHOT", messages=[*self._messages, *self._said])

    def _begun_custom(self, name: str, chunk: Chunk) -> None:
        if self.has_begun:  # a run has to begin before anything else
            self._custom(name, chunk)

    def _custom(self, name: str, chunk: Chunk) -> None:
        self._event("CUSTOM", name=name, value=msgspec.to_builtins(chunk))

    def _event(self, kind: str, **fields: Any) -> None:
        self.emit(b"data: %b\n\n" % to_json({"type": kind, **fields}))


AG_UI_WIRE: Final = WireFormat("ag_ui", EVENT_STREAM, AGUIWriter)


def _text_of(output: Any) -> str:
    return output if isinstance(output, str) else to_json(output).decode()


def _usage(usage: Usage, model: str) -> dict[str, Any]:
    counts = {
        "inputTokens": usage.input_tokens,
        "outputTokens": usage.output_tokens,
        "totalTokens": usage.input_tokens + usage.output_tokens,
        "reasoningTokens": usage.reasoning_tokens,
        "cachedInputTokens": usage.cached_tokens,
        "cacheWriteInputTokens": usage.cache_write_tokens,
    }
    named = {"provider": "rxllm", "model": model}
    return named | {name: count for name, count in counts.items() if count is not None}
