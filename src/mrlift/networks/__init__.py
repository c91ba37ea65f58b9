"""Networks, one file per paper. Everything here needs torch (`pip install mrlift[train]`)."""

from collections.abc import Callable

from torch import nn

from mrlift.networks.mrl import MRL

NETWORKS: dict[str, Callable[..., nn.Module]] = {"mrl": MRL}

__all__ = ["MRL", "NETWORKS"]
