"""The theory's claims, each with the check that could refute it: what ``mfnet validate`` runs.

To add one, write a function ``check(effort) -> Evidence`` under the decorator `claim` in a module of this room, and
name it in `CLAIMS`.
"""

from mfnet.claims.analytic import clock, regimes
from mfnet.claims.balanced import balanced
from mfnet.claims.claim import Claim, Evidence, Row, Verdict, claim, inside, near
from mfnet.claims.effort import Effort
from mfnet.claims.finite_samples import closure, noise_of_samples, starting_error_samples
from mfnet.claims.hydrodynamics import hydrodynamics
from mfnet.claims.infinite_data import population_dynamics
from mfnet.claims.infinite_width import infinite_width
from mfnet.claims.laziness import kernel_change
from mfnet.claims.lazy import lazy_kernel
from mfnet.claims.networks import final_errors, full_fit, steps, ways
from mfnet.claims.noise import fixed_point
from mfnet.claims.onset import onset_lazy, onset_noise, onset_rich
from mfnet.claims.other_data import other_data
from mfnet.claims.overlay import default_overlay
from mfnet.claims.width import bands, starting_error, width_response

#: All claims by name, in the order of the page.
CLAIMS: dict[str, Claim] = {
    entry.name: entry
    for entry in (
        clock,
        regimes,
        population_dynamics,
        hydrodynamics,
        bands,
        width_response,
        starting_error,
        balanced,
        fixed_point,
        steps,
        ways,
        final_errors,
        full_fit,
        onset_rich,
        onset_lazy,
        onset_noise,
        starting_error_samples,
        noise_of_samples,
        closure,
        infinite_width,
        lazy_kernel,
        kernel_change,
        other_data,
        default_overlay,
    )
}

__all__ = ["CLAIMS", "Claim", "Effort", "Evidence", "Row", "Verdict", "claim", "inside", "near"]
