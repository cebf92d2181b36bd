"""grit: an issue tracker that lives inside a git repository."""

__version__ = "0.1.0"
