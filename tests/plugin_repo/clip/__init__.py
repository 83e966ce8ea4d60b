"""A stand-in with the name that every plugin repository ships: it must be this one that the plugin imports."""
from .encoder import load

__all__ = ["load"]
