"""Local models: one engine thread per model, one decode step for all of its live streams."""

import os

# The official builds of onnxruntime write a device id and events into the user's cache, and look up
# a host of their maker, from the first import on.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
