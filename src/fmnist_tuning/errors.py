"""All errors that a user can act on. Messages say where it is, what was found, and what to do."""

_PROBLEMS_SHOWN = 50


class FmnistError(Exception):
    """Base of all errors that a user can act on; they are printed without a traceback."""

    exit_code = 2


class ConfigError(FmnistError):
    """Sweep files, `--set` or `--seeds` that cannot be planned, with a line for every problem."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        count = "1 problem" if len(problems) == 1 else f"{len(problems):,} problems"
        more = len(problems) - _PROBLEMS_SHOWN
        rest = [f"and {more:,} more"] if more > 0 else []
        shown = problems[:_PROBLEMS_SHOWN]
        super().__init__("\n".join([f"{count}; nothing was started:", *shown, *rest]))


class NoFinalistsError(ConfigError):
    """A search that has ended has no trial that could be a finalist."""


class Interrupted(BaseException):
    """Ctrl-C, SIGTERM or SIGHUP. No `Exception`, so that no library catches it by accident."""

    exit_code = 130


class DataError(FmnistError):
    """Images that are missing, damaged or cannot be downloaded."""


class MissingDataError(DataError):
    """There are no images in any of the folders."""


class TrackingError(FmnistError):
    """An MLflow store that cannot be opened, read or written."""


class JournalError(FmnistError):
    """A journal whose markers of generated blocks are damaged or missing."""


class ExchangeError(FmnistError):
    """A study's file that cannot be read, or that contradicts the study."""


class WeightsError(FmnistError):
    """Weights of a trained model that are missing, damaged, or from another model."""


class PictureError(FmnistError):
    """A file that cannot be read as a picture of one garment."""


class TrainingError(FmnistError):
    """One run failed; the other runs go on."""

    exit_code = 1


class DivergedError(TrainingError):
    """A mean loss of an epoch (counted from 1) is not a finite number."""

    def __init__(self, epoch: int, learning_rate: float) -> None:
        super().__init__(
            f"the loss is not a finite number in epoch {epoch}; the likeliest cause is a "
            f"learning rate that is too high ({learning_rate:g}): try a tenth of it"
        )


class CheckpointError(TrainingError):
    """A checkpoint that is damaged, belongs to another run, or cannot be written."""
