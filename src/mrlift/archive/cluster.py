"""The Dask cluster: one that exists, or processes of this machine, one core each."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import dask
from distributed import Client, LocalCluster, Scheduler

from mrlift._version import __version__
from mrlift.errors import ConfigError

RECONNECT = 60.0  # s in which a scheduler that ended must be back
# Beyond what one series does to its own process, workers die of outside causes only: such deaths
# are not held against the series that a worker had (Dask's own limit is 3).
LOCAL = {
    "distributed.scheduler.allowed-failures": 30,
    "distributed.admin.event-loop": "asyncio",
}


@contextmanager
def connect(scheduler: str | None, workers: int, port: int | None = None) -> Iterator[Client]:
    """A client of the scheduler at an address, or of a cluster that lives as long as this block.

    Args:
        scheduler: such as "tcp://10.0.0.1:8786"; None starts processes here.
        workers: how many of them.
        port: of their dashboard; None takes 8787, or another where that is taken.

    Raises:
        ConfigError: nothing answers at the address, or a worker there has another mrlift.
    """
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    # "Port 8787 is already in use": the link that is printed leads to the right one.
    warnings.filterwarnings("ignore", "Port .* is already in use", UserWarning)
    if scheduler is None:
        with (
            dask.config.set(LOCAL),
            LocalCluster(
                n_workers=workers, threads_per_worker=1, processes=True, host="127.0.0.1",
                dashboard_address=f"127.0.0.1:{8787 if port is None else port}",
                silence_logs=logging.CRITICAL,
            ) as cluster,
            Client(cluster) as client,
        ):  # fmt: skip
            yield client
        return
    try:
        client = Client(scheduler, timeout=RECONNECT)
    except (OSError, ValueError, TimeoutError) as error:
        raise ConfigError(
            f"No Dask scheduler answers at {scheduler}. Start one with `dask scheduler`, and "
            f"workers with `dask worker {scheduler} --nthreads 1`."
        ) from error
    with client:
        _refuse_other_versions(client)
        yield client


def cores(client: Client) -> int:
    """Threads of all workers together."""
    return sum(client.nthreads().values())


def forget_notes(client: Client) -> None:
    """Have the scheduler keep one of its many equal notes on what was submitted.

    Dask 2026.8 adds a dict to a span's metadata at every `submit`, and a span lasts for as long as
    its scheduler (dask/distributed#7977). A scheduler of another make is left as it is.
    """
    with suppress(Exception):
        client.run_on_scheduler(_weed)


def _weed(dask_scheduler: Scheduler) -> None:
    for span in dask_scheduler.extensions["spans"].spans.values():
        if span._metadata:
            notes = span._metadata["collections"]
            notes[:] = {repr(note): note for note in notes}.values()


def _version() -> str:
    from mrlift._version import __version__ as version

    return version


def _refuse_other_versions(client: Client) -> None:
    try:
        found = client.run(_version)
    except ImportError as error:
        raise ConfigError(
            "A worker has no mrlift. Install mrlift[archive] of the same version on every worker."
        ) from error
    for address, version in found.items():
        if version != __version__:
            raise ConfigError(
                f"The worker at {address} has mrlift {version}, this is {__version__}. Install the "
                "same version on every worker."
            )
