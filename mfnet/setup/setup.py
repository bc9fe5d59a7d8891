"""All that describes a run: what is computed, what is seen of it, and where."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from omegaconf import DictConfig, OmegaConf

from mfnet.record.identity import identity, run_name
from mfnet.setup.compose import task
from mfnet.setup.errors import SettingError
from mfnet.setup.python import Asked
from mfnet.setup.resolution import resolved
from mfnet.setup.settings import Effect, kept

#: A piece as its config says it: its class under ``_target_``, and the arguments.
Piece = Mapping[str, Any]


@dataclass(frozen=True)
class Setup:
    """A run before it starts: every setting has its value, and has been checked.

    `Setup.of` makes one from the settings that differ from the defaults, in ``conf/``. Which settings there are, what
    they may be and what they change stands in `mfnet.setup.settings`.

    Attributes:
        M: Nodes.
        N: Training examples.
        d: Input dimension.
        alpha: Scale α of the loss (eq. 8): small is rich, large is lazy.
        h: Margin below which an example is unsatisfied.
        seed: Keys every draw; of replica r it is ``seed + r``.
        replicas: Networks that are trained side by side.
        network: Activation, and standard deviations of the initial nodes.
        loss: The margin loss.
        data: The data set.
        flow: The method that integrates the flow.
        mean_field: The mean-field solution, on which theories are built; its unit of time sets automatic times.
        hydrodynamic: The hydrodynamic equation of the run, solved where that solution does not hold.
        theory: The theory that is laid over the run.
        overlay: Theories beside it, by name.
        schedule: When the run is observed.
        stop: What ends it early.
        callbacks: What looks at it, by name.
        logger: Where curves are logged, by name.
        trainer: Where and how exactly it is computed, and options of Lightning's trainer.
        figures: Whether it draws its figures when it ends; None: unless it is one of a sweep.
        objects: Pieces that were given as Python objects, by the key of the setting that they stand for.
        follows: Settings that follow ``seed``, and so differ among replicas.
        asked: What `of` was given, of a setup that was made by it.
    """

    M: int
    N: int
    d: int
    alpha: float
    h: float
    seed: int
    replicas: int
    network: Piece
    loss: Piece
    data: Piece
    flow: Piece
    mean_field: Piece
    hydrodynamic: Piece
    theory: Piece
    overlay: Mapping[str, Piece]
    schedule: Piece
    stop: Piece
    callbacks: Mapping[str, Piece]
    logger: Mapping[str, Piece]
    trainer: Mapping[str, Any]
    figures: bool | None = None
    objects: Mapping[str, Any] = field(default_factory=dict, repr=False)
    follows: tuple[str, ...] = field(default=("data.seed",), compare=False, repr=False)
    asked: Asked | None = field(default=None, compare=False, repr=False)

    @classmethod
    def of(cls, **settings: Any) -> Setup:
        """A setup with these settings, and defaults for the others.

        Names are those of the command. A group takes the name of a choice (``data="digits"``), several where the
        command takes several (``overlay=["kernel_closure"]``), a mapping of settings (``flow={"rtol": 0.003}``), or a
        piece of your own: a class, a function, or `functools.partial` of one. A setting inside a group also is
        ``flow__rtol=0.003``, or ``**{"flow.rtol": 0.003}``.

        Raises:
            SettingError: For the first setting that is wrong.

        >>> setup = Setup.of(alpha=10.0, flow="euler", data__flip=0.1)
        >>> setup.mean_field["flip"], setup.flow["_target_"]
        (0.1, 'mfnet.flow.Euler')
        """
        return cls._of(Asked.read(settings))

    @classmethod
    def _of(cls, asked: Asked) -> Setup:
        return cls.resolved(asked.composed(), asked.objects, asked)

    @classmethod
    def resolved(
        cls, config: DictConfig, objects: Mapping[str, Any] | None = None, asked: Asked | None = None
    ) -> Setup:
        """The setup that a composed config describes; data with sizes of their own say N and d in it.

        Args:
            config: The config, without Hydra's own part.
            objects: Pieces that were given as Python objects, by key.
            asked: What the setup was asked for with.

        Raises:
            SettingError: For the first setting that is wrong.
        """
        settings = resolved(config, objects or {})
        written = OmegaConf.to_container(config.data, resolve=False)
        own = isinstance(written, dict) and written.get("seed") == "${seed}"
        follows = ("data.seed",) if own else ()
        return cls(**settings, objects=dict(objects or {}), follows=follows, asked=asked)

    def but(self, **settings: Any) -> Setup:
        """The same with other settings, as `of` takes them.

        Raises:
            SettingError: For the first setting that is wrong, or if this is not made by `of`.
        """
        if self.asked is None:
            raise SettingError("the setup of a run that was read again does not change; make one with Setup.of")
        return Setup._of(self.asked.but(Asked.read(settings)))

    @property
    def config(self) -> dict[str, Any]:
        """All settings in plain containers, as ``summary.json`` has them."""
        names = [entry.name for entry in dataclasses.fields(self) if entry.name not in ("objects", "follows", "asked")]
        return {name: getattr(self, name) for name in names}

    @property
    def identity(self) -> str:
        """Ten hexadecimal digits that stand for what a run computes and records."""
        return identity(kept(self.config, Effect.RESULT, Effect.RECORD))

    @property
    def name(self) -> str:
        """Name of the run's directory among those of a sweep."""
        return run_name(self.config, self.identity)


#: ``${run_name:}`` in ``conf/train.yaml``.
OmegaConf.register_new_resolver("run_name", lambda *, _root_: Setup.resolved(task(_root_)).name, replace=True)
