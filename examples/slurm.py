"""Dask workers as Slurm jobs; prints the address for `mrlift archive run --scheduler`.

pip install dask-jobqueue
python examples/slurm.py 8       # eight jobs, until Ctrl-C
python examples/slurm.py 0       # only shows the job script
"""

import signal
import sys

from dask_jobqueue import SLURMCluster

jobs = int(sys.argv[1])
cluster = SLURMCluster(
    cores=16,  # of a job ...
    processes=16,  # ... each of them for a worker with one thread
    memory="64GB",
    walltime="12:00:00",
    account="mygroup",
    queue="standard",
    interface="lo",  # the network that nodes share, such as ib0; `ip address` lists them
    local_directory="/tmp",
    scheduler_options={"port": 8786, "allowed_failures": 30},
)
if jobs == 0:
    print(cluster.job_script())
else:
    cluster.scale(jobs=jobs)
    print(cluster.scheduler_address, flush=True)
    signal.pause()
