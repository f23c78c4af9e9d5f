"""The direct line to a bus: a plain UNIX stream beside the sockets of ZeroMQ.

It saves the two threads that ZeroMQ has between a caller and a socket, which is half of the time of
a round trip, and lets the bus see each of its listeners: how far behind it is, and what it lost.
Firing is without ZeroMQ's import, so that `reactor fire` starts fast.
"""
