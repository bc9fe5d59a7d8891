"""Many runs read as tables, from their saved files and nothing else (no torch)."""

from mfnet.collection.averages import curves, finals
from mfnet.collection.collapse import Points, spread
from mfnet.collection.collection import Collection, collect, gathered
from mfnet.collection.onsets import onsets, until_first_end

__all__ = ["Collection", "Points", "collect", "curves", "finals", "gathered", "onsets", "spread", "until_first_end"]
