"""Execution functions: what a minion does when a job names it, one file for each subject."""
