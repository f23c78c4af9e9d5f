"""The encrypted link between minions and their master."""
