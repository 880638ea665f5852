"""Streams: WebSockets whose messages are inferences of one model, answered in the order in which they come."""
