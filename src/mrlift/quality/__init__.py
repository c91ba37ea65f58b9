"""Whether a result can be trusted: consistency with its input, spread, resolution, ranges.

::

    from mrlift import load, load_model, upscale
    from mrlift.quality import check, ensemble

    lr, model = load("t1.nii.gz"), load_model()
    checked = check(lr, upscale(lr, model=model), model.card)
    for finding in checked.findings:
        print(finding.text)
    checked.consistency.residual         # a Volume on the grid of lr, in its units
    ensemble(lr, model).spread           # a Volume on the grid of the result
"""

from mrlift.quality.checking import Check, check, scale_between
from mrlift.quality.consistency import Consistency, consistency
from mrlift.quality.findings import Finding
from mrlift.quality.projection import back_project
from mrlift.quality.ranges import out_of_range
from mrlift.quality.resolution import Resolution, crop_to_acquired, effective_resolution
from mrlift.quality.spread import Ensemble, ensemble

__all__ = [
    "Check",
    "Consistency",
    "Ensemble",
    "Finding",
    "Resolution",
    "back_project",
    "check",
    "consistency",
    "crop_to_acquired",
    "effective_resolution",
    "ensemble",
    "out_of_range",
    "scale_between",
]
