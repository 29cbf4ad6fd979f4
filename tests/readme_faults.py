"""The fault matrix of `rxllm/models/README.md`, generated from its tests: `make readme`."""

from __future__ import annotations

import rxllm
from rxllm.testing.faults import PLACES
from tests.models.remote.test_fault_matrix import EXPECTED, NOTHING


def fault_matrix() -> str:
    """Return the section: a row per fault, with the classification of its errors."""
    rows = [["fault", *PLACES, "`classify_error`"], ["---"] * (len(PLACES) + 2)]
    for fault, outcomes in EXPECTED.items():
        cells = [outcomes.get(place, "") for place in PLACES]
        names = {cell for cell in cells if cell not in {"", NOTHING}}
        actions = {rxllm.classify_error(getattr(rxllm.errors, name)("")) for name in names}
        shown = [f"`{cell}`" if cell in names else cell for cell in cells]
        rows.append([fault, *shown, ", ".join(sorted(actions))])
    return "\n" + "".join("| " + " | ".join(row) + " |\n" for row in rows) + "\n"
