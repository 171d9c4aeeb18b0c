"""Triggers: what looks wrong in a run, told by pure functions of what the run has done so far."""
