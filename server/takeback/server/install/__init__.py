"""Writes takeback into the configuration of MCP clients, and takes it out again. Start reading at `change.py`."""
