"""The outbox: what waits for its release, and can be called back until then."""
