"""The implementation of `rxllm bench`: measure models and report the results."""
