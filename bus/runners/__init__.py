"""Runner functions: what runs on the master, one file for each subject."""
