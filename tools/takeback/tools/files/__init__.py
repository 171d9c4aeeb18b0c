"""Files: the target system for a workspace of folders, and the tools on it. `FilesFamily` is what a server loads."""

from takeback.tools.files.family import FilesFamily

__all__ = ["FilesFamily"]
