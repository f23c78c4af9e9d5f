"""The pure core of the reactor: rule files in, things to do out; no socket, thread or clock."""
