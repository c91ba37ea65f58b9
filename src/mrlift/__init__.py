"""mrlift: sharper magnetic-resonance images.

::

    import mrlift

    sr = mrlift.upscale(mrlift.load("t1.nii.gz"), scale=2)
    mrlift.save(sr, "t1_x2.nii.gz")

Names are imported on first use, so that `import mrlift` and `mrlift --help` cost nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from mrlift._version import __version__

if TYPE_CHECKING:
    from mrlift.errors import (
        ConfigError,
        GeometryError,
        InputError,
        ModelError,
        MrliftError,
        OutputError,
        SeriesChoiceError,
    )
    from mrlift.inference.pipeline import upscale
    from mrlift.inference.zoo import load_model
    from mrlift.io import load, save
    from mrlift.volume import Volume

__all__ = [
    "ConfigError",
    "GeometryError",
    "InputError",
    "ModelError",
    "MrliftError",
    "OutputError",
    "SeriesChoiceError",
    "Volume",
    "__version__",
    "load",
    "load_model",
    "save",
    "upscale",
]

_HOMES = {
    "Volume": "mrlift.volume",
    "load": "mrlift.io",
    "load_model": "mrlift.inference.zoo",
    "save": "mrlift.io",
    "upscale": "mrlift.inference.pipeline",
}


def __getattr__(name: str) -> Any:  # noqa: ANN401
    if name not in __all__:
        raise AttributeError(f"module 'mrlift' has no attribute {name!r}")
    return getattr(import_module(_HOMES.get(name, "mrlift.errors")), name)
