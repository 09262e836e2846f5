"""A server for one trained model: OpenAI's HTTP API, a web page, and voice conversations."""
