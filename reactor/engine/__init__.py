"""The reactor's process: events in order, matched, planned and done, nothing forgotten."""
