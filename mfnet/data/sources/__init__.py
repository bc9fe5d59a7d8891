"""Where real examples come from: each source reads its records, or says in one line what is wrong with them."""

from mfnet.data.sources.idx import IDXFolder, read_idx
from mfnet.data.sources.openml import OpenML
from mfnet.data.sources.packaged import Packaged
from mfnet.data.sources.records import Records, Source
from mfnet.data.sources.tables import ArrayFile, TextTable

__all__ = ["ArrayFile", "IDXFolder", "OpenML", "Packaged", "Records", "Source", "TextTable", "read_idx"]
