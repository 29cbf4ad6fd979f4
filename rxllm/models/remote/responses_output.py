"""The output of a response: text, reasoning, calls and items of other types.

Source: https://platform.openai.com/docs/api-reference/responses-streaming.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from rxllm.chunks import Chunk, FileOutput, Reasoning, Token, ToolCall
from rxllm.models.remote.coercion import as_int, as_object, as_optional_text, as_text
from rxllm.models.remote.history import Target
from rxllm.models.remote.responses_calls import CUSTOM_CALL, FUNCTION_CALL
from rxllm.models.remote.responses_items import OutputItem, OutputItems, Place
from rxllm.models.remote.responses_parts import MESSAGE, REASONING, PartReader, parts_of
from rxllm.models.remote.responses_types import Event, annotations_in
from rxllm.models.remote.state import Comparable
from rxllm.models.remote.wire import unsupported

__all__ = ["OutputReader"]


class OutputReader(Comparable):
    """Reads the output of one response; see `ResponsesReader`.

    Attributes:
        call_count: the number of calls.
    """

    def __init__(self, target: Target, *, with_logprobs: bool) -> None:
        self.call_count: int = 0
        self._target = target
        self._parts = PartReader(with_logprobs=with_logprobs)
        self._items = OutputItems()
        self._has_message = False  # the newest item is one, without a border after it

    @property
    def is_refused(self) -> bool:
        """Whether the model has refused to answer."""
        return self._parts.is_refused

    def knows(self, kind: str) -> bool:
        """Return whether an event of this type carries output."""
        return kind in self._readers

    def read(self, event: Event, chunks: list[Chunk]) -> None:
        """Append the chunks of an event that carries output."""
        self._readers[event.type](self, event, chunks)

    def finish(self, output: list[dict[str, Any]], chunks: list[Chunk], *, is_cut: bool) -> None:
        """Read the whole output in the last event, and close what a server left open.

        Args:
            output: the items.
            chunks: the chunks are appended here.
            is_cut: the response is incomplete, so open calls are not complete.
        """
        self._parts.flush(chunks)
        for item, known in zip(output, self._items.match(output), strict=True):
            if kind := as_optional_text(item.get("type")):
                known = known or self._new(kind, None, None, chunks)
                self._learn(known, item, chunks)
                self._read_item(known, item, chunks)
        for known in self._items.all:
            self._parts.read_held(known, chunks)
            if known.call is not None and not known.call.is_closed:
                self._learn(known, {}, chunks)
                chunks.append(known.call.close(may_be_complete=not is_cut))
        self._parts.flush(chunks)

    def _read_content(self, event: Event, chunks: list[Chunk]) -> None:
        self._parts.add(self._item_of(event, MESSAGE, chunks), _content(event), event, chunks)

    def _refuse(self, event: Event, chunks: list[Chunk]) -> None:
        self._parts.is_refused = True
        self._read_content(event, chunks)

    def _read_reasoning(self, event: Event, chunks: list[Chunk]) -> None:
        self._parts.add(self._item_of(event, REASONING, chunks), _content(event), event, chunks)

    def _read_summary(self, event: Event, chunks: list[Chunk]) -> None:
        self._parts.add(self._item_of(event, REASONING, chunks), _summary(event), event, chunks)

    def _end_content(self, event: Event, chunks: list[Chunk]) -> None:
        """Read a text that has ended, or the part that it is in."""
        kind = "refusal" if "refusal" in event.type else None
        text = event.text or event.refusal or event.transcript
        part = as_object(event.part) or {"text": text, "logprobs": event.logprobs, "type": kind}
        is_reasoning = "reasoning" in f"{event.type} {part.get('type')}"
        item = self._item_of(event, REASONING if is_reasoning else MESSAGE, chunks)
        self._parts.read_part(item, _content(event), part, chunks)
        self._parts.flush(chunks)

    def _end_summary(self, event: Event, chunks: list[Chunk]) -> None:
        part = as_object(event.part) or {"text": event.text}
        self._parts.read_part(
            self._item_of(event, REASONING, chunks), _summary(event), part, chunks
        )
        self._parts.flush(chunks)

    def _begin_content(self, event: Event, chunks: list[Chunk]) -> None:
        part = as_object(event.part)
        kind = REASONING if part.get("type") == "reasoning_text" else MESSAGE
        self._item_of(event, kind, chunks).held[_content(event)] = part

    def _begin_summary(self, event: Event, chunks: list[Chunk]) -> None:
        item = self._item_of(event, REASONING, chunks)
        self._parts.separate(item, _summary(event), chunks)
        item.held[_summary(event)] = as_object(event.part)

    def _cite(self, event: Event, chunks: list[Chunk]) -> None:
        item = self._item_of(event, MESSAGE, chunks)
        for each in annotations_in(event.annotation):
            item.emit_once(each, chunks)

    def _hear(self, event: Event, chunks: list[Chunk]) -> None:
        item = self._item_of(event, MESSAGE, chunks)
        item.emit_once(unsupported({"type": "output_audio"}), chunks)

    def _read_arguments(self, event: Event, chunks: list[Chunk]) -> None:
        kind = CUSTOM_CALL if "custom" in event.type else FUNCTION_CALL
        call = self._item_of(event, kind, chunks).call
        if call is not None and not call.is_closed:
            chunks.extend(call.add(event.delta))

    def _end_arguments(self, event: Event, chunks: list[Chunk]) -> None:
        """Close a call whose arguments have ended; empty ones may still come with the item."""
        kind = CUSTOM_CALL if "custom" in event.type else FUNCTION_CALL
        call = self._item_of(event, kind, chunks).call
        if call is not None and not call.is_closed:
            call.end(event.input if kind == CUSTOM_CALL else event.arguments)
            if call.call is not None and call.has_arguments:
                chunks.append(call.close())

    def _open(self, event: Event, chunks: list[Chunk]) -> None:
        item = as_object(event.item)
        if (known := self._known(event, chunks, is_end=False)) is not None:
            known.held.update(parts_of(known, item))

    def _close(self, event: Event, chunks: list[Chunk]) -> None:
        if (known := self._known(event, chunks, is_end=True)) is not None:
            self._read_item(known, as_object(event.item), chunks)

    def _known(self, event: Event, chunks: list[Chunk], *, is_end: bool) -> OutputItem | None:
        """Return the item that has begun or ended; `None` if it doesn't tell its type."""
        item, index = as_object(event.item), _index_in(event.output_index)
        kind = as_optional_text(item.get("type"))
        if not kind:
            return None
        known = self._items.of_item(kind, index, item, is_end=is_end)
        known = known or self._new(kind, index, None, chunks)
        self._learn(known, item, chunks)
        return known

    def _item_of(self, event: Event, kind: str, chunks: list[Chunk]) -> OutputItem:
        """Return the item that a part belongs to."""
        index, given = _index_in(event.output_index), event.item_id
        given = given if isinstance(given, str) and given else None
        known = self._items.of_part(kind, index, given)
        return known or self._new(kind, index, given, chunks)

    def _new(
        self, kind: str, index: int | None, given: str | None, chunks: list[Chunk]
    ) -> OutputItem:
        if kind == MESSAGE and self._has_message:
            chunks.append(Token("", state=self._target.state({"message": {}})))
        self._has_message = kind == MESSAGE
        return self._items.add(kind, index, given)

    def _learn(self, known: OutputItem, item: dict[str, Any], chunks: list[Chunk]) -> None:
        """Keep what an item says about itself, and open the call that it is."""
        known.learn(item)
        if known.call is not None and known.call.call is None:
            is_custom = known.kind == CUSTOM_CALL
            state = self._target.state({"type": CUSTOM_CALL}) if is_custom else None
            call = ToolCall(
                self._items.call_id_of(item),
                as_optional_text(item.get("name")) or "",
                index=self.call_count,
                state=state,
            )
            self.call_count += 1
            chunks.append(known.call.open(call, item.get("input" if is_custom else "arguments")))

    def _read_item(self, known: OutputItem, item: dict[str, Any], chunks: list[Chunk]) -> None:
        """Read a whole item; of one that has been read before, only what is new."""
        for place, part in parts_of(known, item).items():
            self._parts.read_part(known, place, part, chunks)
        self._parts.read_held(known, chunks)
        self._parts.flush(chunks)
        if known.is_done:
            return
        known.is_done = True
        if known.call is not None:
            self._close_call(known, item, chunks)
        elif known.kind == MESSAGE:
            if item.get("phase"):
                state = self._target.state({"message": {"phase": item["phase"]}})
                chunks.append(Token("", state=state))
                self._has_message = False  # the state is a border already
        else:
            self._keep(known, item, chunks)

    def _keep(self, known: OutputItem, item: dict[str, Any], chunks: list[Chunk]) -> None:
        """Keep an item for the next request."""
        if known.kind == "image_generation_call" and item.get("result"):
            media_type = f"image/{item.get('output_format') or 'png'}"
            chunks.append(FileOutput(media_type, as_text(item["result"])))
        if known.kind == REASONING:
            item = {n: v for n, v in item.items() if n != "status" and v is not None}
        chunks.append(Reasoning("", self._target.state({"item": item})))

    def _close_call(self, known: OutputItem, item: dict[str, Any], chunks: list[Chunk]) -> None:
        call = known.call
        if call is not None and not call.is_closed:
            is_cut = as_text(item.get("status")).lower() == "incomplete"
            given = item.get("input" if known.kind == CUSTOM_CALL else "arguments")
            call.end(given, as_optional_text(item.get("name")) or "", is_ended=not is_cut)
            chunks.append(call.close(may_be_complete=not is_cut))

    _readers: ClassVar[dict[str, Callable[[OutputReader, Event, list[Chunk]], None]]] = {
        "response.output_item.added": _open,
        "response.output_item.done": _close,
        "response.content_part.added": _begin_content,
        "response.content_part.done": _end_content,
        "response.output_text.delta": _read_content,
        "response.output_text.done": _end_content,
        "response.output_text.annotation.added": _cite,
        "response.refusal.delta": _refuse,
        "response.refusal.done": _end_content,
        "response.audio.delta": _hear,
        "response.output_audio.delta": _hear,
        "response.audio.transcript.delta": _read_content,
        "response.audio.transcript.done": _end_content,
        "response.output_audio_transcript.delta": _read_content,
        "response.output_audio_transcript.done": _end_content,
        "response.reasoning_summary_part.added": _begin_summary,
        "response.reasoning_summary_part.done": _end_summary,
        "response.reasoning_summary_text.delta": _read_summary,
        "response.reasoning_summary_text.done": _end_summary,
        "response.reasoning_text.delta": _read_reasoning,
        "response.reasoning_text.done": _end_content,
        "response.function_call_arguments.delta": _read_arguments,
        "response.function_call_arguments.done": _end_arguments,
        "response.custom_tool_call_input.delta": _read_arguments,
        "response.custom_tool_call_input.done": _end_arguments,
    }


def _content(event: Event) -> Place:
    return ("content", _index_in(event.content_index) or 0)


def _summary(event: Event) -> Place:
    return ("summary", _index_in(event.summary_index) or 0)


def _index_in(value: Any) -> int | None:
    return value if type(value) is int else as_int(value)
