"""`takeback demo`: a story told by the real server and a real client. Start reading at `story.py`."""
