"""The minion: a daemon, its warm job workers, and the nursery that these are forked from."""
