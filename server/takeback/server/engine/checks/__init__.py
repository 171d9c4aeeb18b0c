"""Checks of the user's own: what has to hold of what is changed, and what is done if it does not."""
