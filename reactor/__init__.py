"""The rule engine over the bus: rules, the process that runs them, and the command line."""

__version__ = "0.1.0"
