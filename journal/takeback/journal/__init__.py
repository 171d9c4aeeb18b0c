"""See the folder's README.md."""
