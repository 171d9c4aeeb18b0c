"""Streaming what happens to somewhere else: one JSON line for each event, at least once each, in order."""
