"""The model to take home: in MLflow's registry, under one name and alias."""

import inspect
import tempfile
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from mlflow import MlflowClient
from mlflow.entities import LoggedModelOutput
from mlflow.exceptions import MlflowException
from numpy.typing import NDArray

from fmnist_tuning.errors import TrackingError, WeightsError
from fmnist_tuning.tracking.runs import TrackedRun, tracked_run
from fmnist_tuning.tracking.stores import check_reachable, local_path, public, resolve, translated
from fmnist_tuning.tracking.study import Study

if TYPE_CHECKING:
    from torch import nn

WEIGHTS: Final = "weights.pt"
"""The artefact of every training that holds the network."""

MODEL_NAME: Final = "fashion_mnist_cnn"
ALIAS: Final = "champion"

_MISSING: Final = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")
_PACKAGE: Final = Path(__file__).parents[1]


@dataclass(frozen=True, slots=True)
class Champion:
    """A version of the registered model.

    Attributes:
        version: Counted by the registry.
        run: The training that it came from.
        weights: Of that run.
    """

    version: str
    run: TrackedRun
    weights: bytes


class Registry:
    """The registry of a store.

    Args:
        uri: The store's tracking URI, as `Study` has it.

    Raises:
        TrackingError: From every method, when the store fails.
    """

    def __init__(self, uri: str) -> None:
        self._uri = uri
        self._client = MlflowClient(tracking_uri=uri, registry_uri=uri)

    @classmethod
    def existing(cls, tracking_uri: str | None = None) -> "Registry":
        """Open a store's registry without creating anything.

        Raises:
            TrackingError: When there is no store, or it cannot be read.
        """
        uri = resolve(tracking_uri)
        place = local_path(uri)
        with translated(uri):
            if place is not None and not place.exists():
                raise TrackingError(
                    f"there is no store at {public(uri)}; `fmnist run` makes one, and "
                    "--tracking-uri names another"
                )
            check_reachable(uri)
            return cls(uri)

    def weights(self, run_id: str) -> bytes:
        """What a training kept of its network.

        Raises:
            WeightsError: When it kept nothing, as runs that were imported.
        """
        with translated(self._uri), tempfile.TemporaryDirectory() as folder:
            if WEIGHTS not in {found.path for found in self._client.list_artifacts(run_id)}:
                raise WeightsError(f"the run {run_id} has no artefact {WEIGHTS}")
            return Path(self._client.download_artifacts(run_id, WEIGHTS, folder)).read_bytes()

    def keep_weights(self, run_id: str, weights: bytes) -> None:
        """Give a training the weights that it lacks."""
        with translated(self._uri), tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / WEIGHTS
            path.write_bytes(weights)
            self._client.log_artifact(run_id, str(path))

    def champion(self) -> Champion:
        """The version that bears the alias.

        Raises:
            TrackingError: When none does.
        """
        found = self._champion()
        if found is None:
            raise TrackingError(
                f"no model is registered as {MODEL_NAME}@{ALIAS} in {public(self._uri)}; `fmnist "
                "champion` registers the best of a study"
            )
        with translated(self._uri):
            run = tracked_run(self._client.get_run(found.run_id))
        return Champion(str(found.version), run, self.weights(run.run_id))

    def crown(
        self,
        study: Study,
        run: TrackedRun,
        model: "nn.Module",
        images: NDArray[np.uint8],
        probabilities: NDArray[np.float32],
    ) -> str:
        """Log a training's model and register it; one that is the champion already stays.

        Args:
            study: That the run belongs to.
            run: The training.
            model: From (N, 28, 28) uint8 to (N, 10) float32.
            images: An example of what goes in, two images or more.
            probabilities: What comes out of it.

        Returns:
            The version.
        """
        present = self._champion()
        if present is not None and present.run_id == run.run_id:
            return str(present.version)
        client = self._client
        with translated(self._uri), tempfile.TemporaryDirectory() as folder:
            logged = client.create_logged_model(
                study.experiment_id, MODEL_NAME, run.run_id, params=dict(run.params)
            )
            path = Path(folder) / "model"
            _save(path, model, images, probabilities, model_id=logged.model_id, run_id=run.run_id)
            client.log_model_artifacts(logged.model_id, str(path))
            client.finalize_logged_model(logged.model_id, "READY")
            client.log_outputs(run.run_id, [LoggedModelOutput(logged.model_id, step=0)])
            try:
                client.create_registered_model(
                    MODEL_NAME, description="The best Fashion-MNIST classifier of a study by fmnist"
                )
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
            made = client.create_model_version(
                MODEL_NAME,
                f"models:/{logged.model_id}",
                run.run_id,
                description=f"{run.name}, of {study.name}",
                model_id=logged.model_id,
            )
            client.set_registered_model_alias(MODEL_NAME, ALIAS, made.version)
        return str(made.version)

    def _champion(self) -> Any:
        with translated(self._uri):
            try:
                return self._client.get_model_version_by_alias(MODEL_NAME, ALIAS)
            except MlflowException as error:
                if error.error_code in _MISSING:
                    return None
                raise


def _save(
    path: Path,
    model: "nn.Module",
    images: NDArray[np.uint8],
    probabilities: NDArray[np.float32],
    **ids: str,
) -> None:
    import mlflow.pytorch  # noqa: PLC0415  brings torch
    from mlflow.models import Model, ModelSignature  # noqa: PLC0415
    from mlflow.types import Schema, TensorSpec  # noqa: PLC0415

    signature = ModelSignature(
        Schema([TensorSpec(np.dtype(np.uint8), (-1, *images.shape[1:]))]),
        Schema([TensorSpec(np.dtype(np.float32), (-1, *probabilities.shape[1:]))]),
    )
    # MLflow would find the requirements by loading the model in a process of its own: 6 to 22 s.
    names = ("mlflow", "torch", "numpy")
    requirements = [f"{name}=={version(name).partition('+')[0]}" for name in names]
    # As an exported program, which needs no code of ours and holds no pickle that could run;
    # older MLflow pickles the module, and takes its code along.
    exports = "serialization_format" in inspect.signature(mlflow.pytorch.save_model).parameters
    how = {"serialization_format": "pt2"} if exports else {"code_paths": [str(_PACKAGE)]}
    mlflow.pytorch.save_model(
        model,
        str(path),
        mlflow_model=Model(artifact_path=MODEL_NAME, **ids),
        signature=signature,
        input_example=images,
        pip_requirements=requirements,
        **how,
    )
