import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("default", deadline=None, max_examples=60)
settings.load_profile("default")

# Not the user's own folder, and one measured choice of an engine for the whole run: pytest-xdist's
# workers inherit the folder of the process that starts them.
if "PYTEST_XDIST_WORKER" not in os.environ:
    os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp(prefix="mrlift-tests-")

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="session")
def sample():
    """The real DICOM series in samples/."""
    return ROOT / "samples" / "t1w"


def exported(folder, noise):
    """Export a small network whose fresh weights are disturbed by `noise`."""
    torch = pytest.importorskip("torch", reason="export needs the train extra")
    from mrlift.training.checkpoint import Checkpoint
    from mrlift.training.config import recipe_from
    from mrlift.training.export import export
    from mrlift.training.loop import build_network

    recipe = recipe_from(
        {"network": {"units": 2, "channels": 8}, "card": {"name": "tiny", "licence": "CC0"}}
    )
    torch.manual_seed(0)
    network = build_network(recipe.network)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(noise * torch.randn_like(parameter))
    facts = {
        "spacing": [0.5, 1.0], "patients": 1, "series": 1, "slices": 1, "start": [],
        "contrasts": ["T1"], "sources": ["phantom (CC0)"], "validation": {},
    }  # fmt: skip
    history = [{"gain": 0.0, "lr_pixels": 0}]
    state = Checkpoint(recipe, 0, network.state_dict(), network.state_dict(), {}, history, facts)
    path = folder / "tiny.onnx"
    export(state, path)
    return path


@pytest.fixture(scope="session")
def tiny_weights(tmp_path_factory):
    """Exported weights of a small network that has learned nothing: bicubic interpolation."""
    return exported(tmp_path_factory.mktemp("tiny"), 0.0)


@pytest.fixture(scope="session")
def random_weights(tmp_path_factory):
    """Exported weights of a small network in which every weight matters."""
    return exported(tmp_path_factory.mktemp("random"), 0.1)


@pytest.fixture
def data():
    """The folder of real data that MRLIFT_DATA names, else a skip."""
    folder = os.environ.get("MRLIFT_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("MRLIFT_DATA does not name a folder with real series")
    return Path(folder)
