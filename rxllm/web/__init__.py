"""Between a stream and its clients: messages, encoding, writing, and streams that are kept."""
