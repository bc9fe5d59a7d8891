"""Analytic predictions, in numpy and scipy alone: usable without torch.

>>> from mfnet.theory import MeanField
>>> float(MeanField(d=100, alpha=1.0).solve(10.0).gamma[0].round(8))
0.39894228
"""

from mfnet.theory.finite_width import FiniteWidth
from mfnet.theory.mean_field import MeanField, MeanFieldSolution
from mfnet.theory.overlay import Curve, Draw, Nodes, Theory
from mfnet.theory.projections import LabelNoise, Normal, ProjectionLaw, Radial, Sphere, projection_law
from mfnet.theory.regimes import AsymptoticLaws, LazySolution, lazy_limit

__all__ = [
    "AsymptoticLaws",
    "Curve",
    "Draw",
    "FiniteWidth",
    "LabelNoise",
    "LazySolution",
    "MeanField",
    "MeanFieldSolution",
    "Nodes",
    "Normal",
    "ProjectionLaw",
    "Radial",
    "Sphere",
    "Theory",
    "lazy_limit",
    "projection_law",
]
