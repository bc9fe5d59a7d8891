"""Analytic predictions, in numpy and scipy alone: usable without torch.

>>> from mfnet.theory import MeanField
>>> float(MeanField(d=100, alpha=1.0).solve(10.0).gamma[0].round(8))
0.39894228
"""

from mfnet.theory.activations import Activation
from mfnet.theory.choice import Auto
from mfnet.theory.closures import KernelClosure, LinearClosure
from mfnet.theory.finite_samples import FiniteSamples
from mfnet.theory.finite_width import FiniteWidth
from mfnet.theory.hydrodynamic import Hydrodynamic
from mfnet.theory.hydrodynamic_solution import HydrodynamicSolution
from mfnet.theory.kernel_flow import KernelFlow
from mfnet.theory.latent import LatentLaw, latent_law
from mfnet.theory.losses import Loss
from mfnet.theory.mean_field import MeanField
from mfnet.theory.mean_field_solution import MeanFieldSolution
from mfnet.theory.moving_kernel import MovingKernel
from mfnet.theory.onset import Onset, onset
from mfnet.theory.overlap import Empirical, Mixture, reference_direction
from mfnet.theory.overlay import Curve, Draw, Nodes, Theory, checked_nodes, checked_satisfaction, checked_series
from mfnet.theory.projections import Elongated, LabelNoise, Normal, ProjectionLaw, Radial, Sphere, projection_law
from mfnet.theory.realised_width import RealisedWidth
from mfnet.theory.regimes import AsymptoticLaws, LazySolution, lazy_limit
from mfnet.theory.starting_error import realised_starting_error, starting_error
from mfnet.theory.tangent_kernel import ActualKernel, LimitKernel
from mfnet.theory.validity import Trust, trust

__all__ = [
    "Activation",
    "ActualKernel",
    "AsymptoticLaws",
    "Auto",
    "Curve",
    "Draw",
    "Elongated",
    "Empirical",
    "FiniteSamples",
    "FiniteWidth",
    "Hydrodynamic",
    "HydrodynamicSolution",
    "KernelClosure",
    "KernelFlow",
    "LabelNoise",
    "LatentLaw",
    "LazySolution",
    "LimitKernel",
    "LinearClosure",
    "Loss",
    "MeanField",
    "MeanFieldSolution",
    "Mixture",
    "MovingKernel",
    "Nodes",
    "Normal",
    "Onset",
    "ProjectionLaw",
    "Radial",
    "RealisedWidth",
    "Sphere",
    "Theory",
    "Trust",
    "checked_nodes",
    "checked_satisfaction",
    "checked_series",
    "latent_law",
    "lazy_limit",
    "onset",
    "projection_law",
    "realised_starting_error",
    "reference_direction",
    "starting_error",
    "trust",
]
