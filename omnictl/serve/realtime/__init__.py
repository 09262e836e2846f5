"""Voice conversations over a WebSocket, by OpenAI's Realtime events."""
