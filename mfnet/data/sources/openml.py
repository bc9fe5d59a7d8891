"""Data sets of OpenML, fetched once through scikit-learn."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

from sklearn.datasets import fetch_openml, get_data_home

from mfnet.data.sources.records import Records, make_records
from mfnet.setup.errors import SettingError


@dataclass(frozen=True)
class OpenML:
    """A data set by its name at openml.org; scikit-learn keeps it in ``~/scikit_learn_data``, or ``SCIKIT_LEARN_DATA``.

    It is held in memory as a whole while its classes are chosen: about 1 GiB at most for MNIST.

    Args:
        name: Its name.
        version: Its version.
        n_train: The first so many are the training set, the rest the test set; None: they are not divided.
    """

    name: str
    version: int = 1
    n_train: int | None = None

    def read(self) -> Records:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of attempts that fail, and of versions that are not active
                loaded = fetch_openml(self.name, version=self.version, as_frame=False, n_retries=1, delay=0.1)
        except (OSError, ValueError) as error:
            raise SettingError(
                f"data.source.name={self.name}: is not kept in {get_data_home()}, and OpenML cannot be reached "
                f"({' '.join(str(error).split())}); connect this machine once, or use data=idx or data=digits"
            ) from None
        x, classes, n = loaded.data, loaded.target, self.n_train
        parts = [(x, classes)] if n is None else [(x[:n], classes[:n]), (x[n:], classes[n:])]
        return make_records(parts, f"OpenML's {self.name}")
