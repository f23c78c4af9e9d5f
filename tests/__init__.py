"""The tests of the bus and the reactor."""
