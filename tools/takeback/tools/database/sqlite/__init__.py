"""SQLite: databases of the configuration, and files of the workspace."""
