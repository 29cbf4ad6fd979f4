"""The stages of the work, and how far it is as a whole."""

from __future__ import annotations

import math
from typing import Final, Literal, TypeAlias

from msgspec.structs import replace

from rxllm.chunks import ErrorInfo, StageInfo

__all__ = ["BEGINS", "STAGES", "Stage", "StageTimes", "generated_percentage", "prompt_percentage"]

Stage: TypeAlias = Literal["initialise", "choose_model", "generate", "complete"]

STAGES: Final[tuple[Stage, ...]] = ("initialise", "choose_model", "generate", "complete")

BEGINS: Final[dict[Stage, float]] = {
    "initialise": 0.0,
    "choose_model": 10.0,
    "generate": 25.0,
    "complete": 100.0,
}
"""The percentage at which each stage begins."""

_GENERATED: Final = 95.0
_USUAL: Final = 100  # tokens after which an answer of unknown length is at about two thirds


def generated_percentage(tokens: int, max_tokens: int | None) -> float:
    """Return the percentage of the whole work after that many tokens of the answer."""
    if max_tokens is None:
        share = 1.0 - math.exp(-tokens / _USUAL)
    else:
        share = min(1.0, tokens / max_tokens)
    return BEGINS["generate"] + (_GENERATED - BEGINS["generate"]) * share


def prompt_percentage(of_prompt: float | None) -> float:
    """Return the percentage of the whole work while a prompt is read, given that of the prompt."""
    share = (of_prompt or 0.0) / 100
    return BEGINS["choose_model"] + (BEGINS["generate"] - BEGINS["choose_model"]) * share


class StageTimes:
    """When each stage began and ended, in seconds since the subscription."""

    def __init__(self) -> None:
        self._stages = {stage: StageInfo(stage, "pending") for stage in STAGES}
        self.current: Stage | None = None

    def enter(self, stage: Stage, now: float) -> None:
        """End the current stage and begin `stage`; those after it are pending again."""
        place = STAGES.index(stage)
        if self.current is not None:
            self._end(self.current, now)
        for earlier in STAGES[:place]:
            if self._stages[earlier].status == "pending":
                self._stages[earlier] = StageInfo(earlier, "skipped")
        for later in STAGES[place:]:
            self._stages[later] = StageInfo(later, "pending")
        self._stages[stage] = StageInfo(stage, "running", now)
        self.current = stage
        if stage == "complete":
            self._end(stage, now)

    def fail(self, error: Exception, now: float) -> None:
        """End the current stage with `error`."""
        if self.current is not None:
            failed = replace(self._stages[self.current], status="failed", ended=now)
            self._stages[self.current] = replace(failed, error=ErrorInfo.of(error))

    def _end(self, stage: Stage, now: float) -> None:
        self._stages[stage] = replace(self._stages[stage], status="completed", ended=now)

    def infos(self) -> tuple[StageInfo, ...]:
        """All stages, in order."""
        return tuple(self._stages.values())
