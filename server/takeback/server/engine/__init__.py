"""See the component's README.md."""
