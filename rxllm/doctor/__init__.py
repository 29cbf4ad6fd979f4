"""Checks servers of language model streams: `rxllm check URL`.

Any server: it asks for a few short streams, and judges what comes by the rules that clients
enforce. A rule is in the judge of its wire format (`judges/`), with its source.
"""

from rxllm.doctor.check import Checkup, check_server
from rxllm.doctor.dialects import DIALECTS
from rxllm.doctor.findings import ASPECTS, Finding

__all__ = ["ASPECTS", "DIALECTS", "Checkup", "Finding", "check_server"]
