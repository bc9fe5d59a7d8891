"""Wide single-hidden-layer networks, trained beside their mean-field theory."""

from importlib.metadata import version

__version__ = version("mfnet")
