"""What things cost here, beside plain ZeroMQ in the same run. ``python -m tests.benchmarks``."""
