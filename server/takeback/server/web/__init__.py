"""The local page: what a person without a terminal needs to look, decide and take back."""
