"""What each family of events makes of the views; `projections.py` puts them together."""
