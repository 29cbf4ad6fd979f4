"""Local models: one engine thread for each, one decode step for all of its live streams."""
