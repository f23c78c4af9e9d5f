"""The event sockets of a bus: taking events, keeping them, publishing them."""
