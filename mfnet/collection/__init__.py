"""Many runs read as tables, from their saved files and nothing else (no torch)."""

from mfnet.collection.averages import curves, finals
from mfnet.collection.collection import Collection, collect

__all__ = ["Collection", "collect", "curves", "finals"]
