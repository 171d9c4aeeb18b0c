"""Databases: any statement, taken back exactly, or said beforehand that it cannot be. A server loads `family.DatabaseFamily`.

`port.py` says what a database has to do, `sqlite/` and `postgres/` do it; their drivers are loaded with the first database of
their kind that is used.
"""
