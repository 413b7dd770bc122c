"""The index replaces this file."""

__version__ = "0"
