"""Networks, one file per paper. Everything here needs torch (`pip install mrlift[train]`).

Each takes `scale` first; everything else is a keyword with a default, which recipes may set. One
that can give both grids takes `grid`, one that cannot gives the edges grid. A scale or grid that an
architecture does not have is a ValueError.
"""

from collections.abc import Callable

from torch import nn

from mrlift.networks.de_cnn import DeCNN
from mrlift.networks.edsr import EDSR
from mrlift.networks.espcn import ESPCN
from mrlift.networks.fscwn import FSCWN
from mrlift.networks.fsrcnn import FSRCNN
from mrlift.networks.mrl import MRL
from mrlift.networks.span import SPAN
from mrlift.networks.srcnn import SRCNN

NETWORKS: dict[str, Callable[..., nn.Module]] = {
    "srcnn": SRCNN,
    "espcn": ESPCN,
    "fsrcnn": FSRCNN,
    "de-cnn": DeCNN,
    "fscwn": FSCWN,
    "span": SPAN,
    "edsr": EDSR,
    "mrl": MRL,
}

__all__ = ["MRL", "NETWORKS"]
