"""Local models: one engine thread per model, one decode step for all of its live streams."""
