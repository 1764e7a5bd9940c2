"""The error tree. Every message says what was found, where, and what to do about it.

FmnistError             exit code 2: usage, configuration, data or tracking store
├── ConfigError         a sweep file, a `--set` or a `--seeds` that cannot be planned
├── DataError           images damaged or unreachable
│   └── MissingDataError  images nowhere to be found
├── TrackingError       the MLflow store cannot be opened, read or written
├── JournalError        a journal whose markers are damaged or missing
├── ExchangeError       a study's file that cannot be read, or is at odds with the study
├── WeightsError        a trained model's weights that are damaged, missing or another's
├── PictureError        a file that is no picture of one garment
└── TrainingError       exit code 1: one run failed; the others go on
    ├── DivergedError   its loss became NaN or infinite
    └── CheckpointError a checkpoint that is damaged or cannot be written
"""

_PROBLEMS_SHOWN = 50


class FmnistError(Exception):
    """Base of every error that a user can act on; printed without a traceback."""

    exit_code = 2


class ConfigError(FmnistError):
    """Sweep files or overrides that cannot be planned.

    Args:
        problems: One line each: the place, what was found, what is allowed.
    """

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        count = "1 problem" if len(problems) == 1 else f"{len(problems):,} problems"
        more = len(problems) - _PROBLEMS_SHOWN
        rest = [f"and {more:,} more"] if more > 0 else []
        shown = problems[:_PROBLEMS_SHOWN]
        super().__init__("\n".join([f"{count}, nothing was trained:", *shown, *rest]))


class Interrupted(BaseException):
    """Ctrl-C or SIGTERM. Not an `Exception`, so that no library on the way can swallow it."""

    exit_code = 130


class DataError(FmnistError):
    """Images that are missing, damaged or out of reach."""


class MissingDataError(DataError):
    """No images in any of the places looked at."""


class TrackingError(FmnistError):
    """An MLflow store that cannot be opened, read or written."""


class JournalError(FmnistError):
    """A journal whose generated blocks cannot be found."""


class ExchangeError(FmnistError):
    """A study's file that cannot be read, or that contradicts the study it would go into."""


class WeightsError(FmnistError):
    """Weights of a trained model that are not there, damaged, or another model's."""


class PictureError(FmnistError):
    """A file that cannot be read as a picture of one garment."""


class TrainingError(FmnistError):
    """One run that could not be finished."""

    exit_code = 1


class DivergedError(TrainingError):
    """A loss that is no longer a finite number.

    Args:
        epoch: The epoch, counted from 1, whose mean loss is not finite.
        learning_rate: The learning rate in use, the likeliest cause.
    """

    def __init__(self, epoch: int, learning_rate: float) -> None:
        super().__init__(
            f"the loss is not a finite number in epoch {epoch}; the likeliest cause is a "
            f"learning rate that is too high ({learning_rate:g}): try a tenth of it"
        )


class CheckpointError(TrainingError):
    """A checkpoint that is damaged, another run's, or cannot be written."""
