"""HTTP: event streams, webhooks, the API, metrics and the page, in a process of its own."""
