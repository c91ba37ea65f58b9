"""Every error that mrlift raises on purpose.

::

    MrliftError                   exit code 1
    ├── InputError                2   the input cannot be read or is not what the job needs
    │   ├── GeometryError         2   positions, spacings or orientations do not make a volume
    │   └── SeriesChoiceError     2   a folder holds several series and none was chosen
    ├── OutputError               3   the result cannot be written; nothing half-written is left
    ├── ModelError                4   weights or their card are missing, damaged or do not fit
    ├── ConfigError               5   a recipe or configuration has a wrong or unknown entry
    ├── DivergenceError           6   training left the finite numbers
    ├── QualityError              7   a result that draws warnings, where --strict allows none
    ├── ClusterError              8   the Dask cluster is gone in the middle of a run
    └── IncompleteError           9   an archive is done but for series that failed

Messages say what was expected, what was found and what to do about it. They never carry
patient attributes.
"""


class MrliftError(Exception):
    """Base of all deliberate errors; `exit_code` is what the command line returns."""

    exit_code = 1


class InputError(MrliftError):
    """The input is missing, damaged or of a kind that mrlift does not process."""

    exit_code = 2


class GeometryError(InputError):
    """Slice positions, spacings or orientations do not form a regular volume."""


class SeriesChoiceError(InputError):
    """A folder holds several series; the message lists them."""


class OutputError(MrliftError):
    """The output exists already, cannot be created or could not be written completely."""

    exit_code = 3


class ModelError(MrliftError):
    """Weights or their card are missing, damaged, or do not fit the request."""

    exit_code = 4


class ConfigError(MrliftError):
    """A recipe or configuration has an unknown key or a value of the wrong kind."""

    exit_code = 5


class DivergenceError(MrliftError):
    """Training fell apart; the last saved checkpoint is still good."""

    exit_code = 6


class QualityError(MrliftError):
    """A result draws warnings and the caller allowed none; it is written, and to be looked at."""

    exit_code = 7


class ClusterError(MrliftError):
    """The Dask cluster is gone in the middle of a run; running again goes on."""

    exit_code = 8


class IncompleteError(MrliftError):
    """An archive run came to its end, but some series failed; the ledger says which and why."""

    exit_code = 9
