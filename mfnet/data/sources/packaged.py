"""Data sets that come with scikit-learn: nothing is downloaded."""

from __future__ import annotations

from dataclasses import dataclass

from sklearn import datasets

from mfnet.data.sources.records import Records, make_records
from mfnet.setup.errors import InvalidSettingError

NAMES = ("digits", "breast_cancer")


@dataclass(frozen=True)
class Packaged:
    """A data set of scikit-learn's.

    Args:
        name: 'digits', 1797 images of 8 × 8 pixels in ten classes, or 'breast_cancer', 569 cells with 30 measurements,
            'malignant' or 'benign'.
    """

    name: str

    def __post_init__(self) -> None:
        if self.name not in NAMES:
            raise InvalidSettingError("data.source.name", self.name, f"must be one of {', '.join(NAMES)}")

    def read(self) -> Records:
        loaded = getattr(datasets, f"load_{self.name}")()
        return make_records(
            [(loaded.data, loaded.target_names[loaded.target])],
            f"scikit-learn's {self.name}",
            [str(name) for name in loaded.feature_names],
        )
