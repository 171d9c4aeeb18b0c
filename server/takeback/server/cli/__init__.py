"""The command line: one door into the engine. Start reading at `entry.py`."""

from takeback.server.cli.entry import main

__all__ = ["main"]
