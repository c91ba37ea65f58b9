"""Hypothesis strategies shared by the tests that state laws."""

import numpy as np
from hypothesis import strategies as st


@st.composite
def affines(draw):
    """Oblique, anisotropic, right- or left-handed affines in mm."""
    angles = [draw(st.floats(-3.1, 3.1)) for _ in range(3)]
    rotation = np.eye(3)
    for axis, angle in enumerate(angles):
        turn = np.eye(3)
        i, j = (a for a in range(3) if a != axis)
        turn[i, i] = turn[j, j] = np.cos(angle)
        turn[i, j], turn[j, i] = -np.sin(angle), np.sin(angle)
        rotation = rotation @ turn
    spacing = [draw(st.floats(0.2, 7.0)) for _ in range(3)]
    signs = [draw(st.sampled_from((-1.0, 1.0))) for _ in range(3)]
    affine = np.eye(4)
    affine[:3, :3] = rotation * spacing * signs
    affine[:3, 3] = [draw(st.floats(-300, 300)) for _ in range(3)]
    return affine


sizes = st.integers(1, 9)
scales = st.sampled_from((2, 3, 4))
grids = st.sampled_from(("edges", "paper"))
