"""A binary task on real examples: two groups of their classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from sklearn.model_selection import train_test_split
from torch import Tensor

from mfnet.compute.seeding import generator
from mfnet.data.datamodule import ObservedData
from mfnet.data.examples import Examples
from mfnet.data.mapped import in_file, in_memory
from mfnet.data.preparation import Preparation, Prepared
from mfnet.data.sources.records import Records, Source, shortened
from mfnet.data.spherical import flip_labels
from mfnet.data.task import Task
from mfnet.setup.errors import InvalidSettingError, SettingError
from mfnet.setup.typed import meant, typed
from mfnet.theory import reference_direction

#: Text, or what a config has made of it.
Name = str | bool | int | float | None

Names = tuple[str, ...]


class BinaryTask(ObservedData):
    """Some classes of a source against others. Its reference direction is that of the mean of yx.

    Inputs are float64. A set of them that is larger than ``memory`` is written to a temporary file, 8 MiB at a time,
    and mapped from it (`mfnet.data.mapped`); its values are the same. Sources that map their own files
    (`mfnet.data.sources`) are then never in memory as a whole.

    What follows a mapped set in bounded memory: minibatches, fixed and adaptive steps, every observation, and theories
    that see projections alone. flow=averaged copies the inputs of examples near the margin, and all where the run is in
    float64; closures, the kernel flow, baselines, and replicas copy the whole set.

    Args:
        source: Where examples come from.
        positive: Classes labelled +1, as text or as what a config makes of it (true, 3, null); None: the last of two.
        negative: Classes labelled −1; None: all others.
        n_train: Number N of training examples, every class in proportion; None: all.
        test_share: Share of the examples that is kept for the test, where the source has no test set of its own.
        preparation: What is done to inputs.
        flip: Fraction of training labels that are reversed; test labels are true.
        seed: Keys the division, the choice of training examples and the flips.
        memory: Size of prepared inputs, in GiB, of which a set, training or test, is held in memory.
        schedule: Observation times (`ObservedData`).
    """

    def __init__(
        self,
        source: Source,
        preparation: Preparation,
        seed: int,
        schedule: Float[np.ndarray, " K"],
        positive: Sequence[Name] | None = None,
        negative: Sequence[Name] | None = None,
        n_train: int | None = None,
        test_share: float = 0.25,
        flip: float = 0.0,
        memory: float = 2.0,
    ):
        super().__init__(schedule)
        groups = _told_apart(positive), _told_apart(negative)
        state = getattr(source, "state_of_files", None)
        self._recipe = _Recipe(source, *groups, n_train, test_share, preparation, flip, seed, memory, state)

    def draw(self) -> Task:
        return _drawn(self._recipe)[0]

    @property
    def fitted(self) -> Mapping[str, np.ndarray]:
        """Parameters of the preparation, ŵ*, and the rows of the source that are used."""
        return _drawn(self._recipe)[1]


class _Recipe(NamedTuple):
    """All that a task depends on."""

    source: Source
    positive: tuple[tuple[str, Name], ...] | None
    negative: tuple[tuple[str, Name], ...] | None
    n_train: int | None
    test_share: float
    preparation: Preparation
    flip: float
    seed: int
    memory: float
    state: object


def _told_apart(classes: Sequence[Name] | None) -> tuple[tuple[str, Name], ...] | None:
    """Classes with the names of their types: true is equal to 1."""
    return None if classes is None else tuple((type(name).__name__, name) for name in classes)


#: The latest task, for which sizes, theory and training ask one after the other, the latter two by its N.
_latest: dict[_Recipe, tuple[Task, dict[str, np.ndarray]]] = {}


def _drawn(recipe: _Recipe) -> tuple[Task, dict[str, np.ndarray]]:
    if recipe not in _latest:
        _latest.clear()  # before the next is drawn: there may be no room for both
        drawn = _draw(recipe)
        _latest[recipe] = _latest[recipe._replace(n_train=len(drawn[0].train.y))] = drawn
    return _latest[recipe]


def _draw(recipe: _Recipe) -> tuple[Task, dict[str, np.ndarray]]:
    records = recipe.source.read()
    asked = [None if given is None else [name for _, name in given] for given in (recipe.positive, recipe.negative)]
    groups = choose_classes(records, *asked)
    train, test = _divide(records, np.flatnonzero(np.isin(records.classes, [*groups[0], *groups[1]])), recipe)
    prepared = recipe.preparation.fit(records, train)
    true = [np.where(np.isin(records.classes[rows], groups[0]), 1.0, -1.0) for rows in (train, test)]
    if prepared.n_columns < 2:
        raise SettingError(f"{records.origin}: has one column; a task needs at least two")
    x_train, x_test = (_inputs(records, rows, prepared, recipe.memory) for rows in (train, test))
    y_train, y_test = map(torch.from_numpy, true)
    y_flipped = flip_labels(y_train, recipe.flip, generator(recipe.seed, "flip"))
    try:
        direction = reference_direction(x_train.numpy(), y_flipped.numpy())
    except ValueError as error:
        raise SettingError(f"{records.origin}: {error}") from None
    fitted = prepared.parameters | {
        "direction": direction,
        "train_rows": train,
        "test_rows": test,
        "flipped": np.flatnonzero((y_train != y_flipped).numpy()),
    }
    return Task(Examples(x_train, y_flipped), Examples(x_test, y_test), torch.from_numpy(direction)), fitted


def _inputs(records: Records, rows: np.ndarray, prepared: Prepared, memory: float) -> Float[Tensor, "n d"]:
    """The prepared inputs of some rows, mapped from a file where they take more than ``memory`` GiB."""
    parts = (torch.from_numpy(prepared.pipeline.transform(x)) for x in records.chunks(rows))
    shape = len(rows), prepared.n_columns
    if 8 * len(rows) * prepared.n_columns > memory * 2**30:
        return in_file(parts, shape, torch.float64)
    return in_memory(parts, shape, torch.float64, torch.device("cpu"))


def choose_classes(
    records: Records, positive: Sequence[Name] | None, negative: Sequence[Name] | None
) -> tuple[Names, Names]:
    """The classes labelled +1 and −1.

    Raises:
        SettingError: If they are not there, are in both groups, or must be chosen.
    """
    there = tuple(np.unique(records.classes).tolist())
    listed = shortened(there)
    if len(there) == 1:
        raise SettingError(f"{records.origin}: all examples are of one class, {listed}; a task needs two")
    if positive is None and (negative is not None or len(there) > 2):
        chosen = typed("data.positive", [min(there, key=len)])
        raise InvalidSettingError(
            "data.positive", "null", f"{records.origin} has the classes {listed}; say which are +1, as in {chosen}"
        )
    plus = there[1:] if positive is None else _found(records, "positive", positive, there)
    if negative is None:
        minus = tuple(name for name in there if name not in plus)
    else:
        minus = _found(records, "negative", negative, there)
    for key, group, other in (("positive", plus, minus), ("negative", minus, plus)):
        for name in group:
            if name in other:
                raise InvalidSettingError(f"data.{key}", f"[{', '.join(group)}]", f"class {name} is in both groups")
        if not group:
            raise InvalidSettingError(f"data.{key}", "[]", f"must name some of the classes {listed}")
    return plus, minus


def _found(records: Records, key: str, given: Sequence[Name], there: Names) -> Names:
    """The classes that are given, as they are called in the source."""
    found, shown = [], f"[{', '.join(map(str, given))}]"
    for name in given:
        same = meant(name, there)
        if not same:
            raise InvalidSettingError(f"data.{key}", shown, f"{records.origin} has the classes {shortened(there)}")
        if len(same) > 1:
            texts = " or ".join(typed(f"data.{key}", [text], quoted=True) for text in same)
            raise InvalidSettingError(f"data.{key}", shown, f"is not told from others; quote the text: {texts}")
        found += same
    return tuple(found)


def _divide(records: Records, chosen: np.ndarray, recipe: _Recipe) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the training and of the test set, among the ``chosen`` ones."""
    classes, counts = np.unique(records.classes[chosen], return_counts=True)
    if records.n_train is not None:
        train, test = chosen[chosen < records.n_train], chosen[chosen >= records.n_train]
        for name in classes:
            for part, rows in (("training", train), ("test", test)):
                if name not in records.classes[rows]:
                    raise SettingError(
                        f"{records.origin}: class {name} has no example in the {part} set; choose others"
                    )
    else:
        if counts.min() < 2:
            raise SettingError(
                f"{records.origin}: class {classes[counts.argmin()]} has one example, and a training and a test set "
                "need one each; choose others"
            )
        train, test = _split(records, chosen, recipe.seed, "test", test_size=recipe.test_share)
    if recipe.n_train is None or recipe.n_train == len(train):
        return train, test
    if recipe.n_train > len(train):
        raise InvalidSettingError("N", recipe.n_train, f"{records.origin} leaves {len(train)} for training")
    if recipe.n_train < len(classes):
        raise InvalidSettingError("N", recipe.n_train, f"must be at least {len(classes)}, one a class")
    return _split(records, train, recipe.seed, "train", train_size=recipe.n_train)[0], test


def _split(records: Records, rows: np.ndarray, seed: int, purpose: str, **size: float) -> tuple[np.ndarray, np.ndarray]:
    """Two parts with every class in proportion, each in the order of the source."""
    state = int(torch.randint(2**31, (), generator=generator(seed, f"split {purpose}")))
    try:
        parts = train_test_split(rows, stratify=records.classes[rows], random_state=state, **size)
    except ValueError as error:
        raise SettingError(f"{records.origin}: cannot be divided: {error}") from None
    first, second = map(np.sort, parts)
    return first, second
