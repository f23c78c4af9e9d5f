"""Grains: facts about a host. Every public function of these files returns a dict of them."""
