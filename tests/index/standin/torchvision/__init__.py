"""A stand-in for torchvision: one honest operator."""

from . import ops
from .version import __version__

__all__ = ["__version__", "ops"]
