"""An aiohttp server of streams, and its page: `rxllm serve`, or `create_app(...)` in your own."""
