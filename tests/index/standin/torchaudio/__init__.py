"""A stand-in for torchaudio: resampling by repetition."""

from . import functional
from .version import __version__

__all__ = ["__version__", "functional"]
