"""What `rxllm bench` does: measure models, and report on it."""
