"""Wheel functions: how a master is administered, one file for each subject."""
