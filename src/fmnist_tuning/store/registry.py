"""The best model of a study, in MLflow's model registry under a name for each study."""

import inspect
import json
import tempfile
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from mlflow import MlflowClient
from mlflow.entities import LoggedModelOutput
from mlflow.exceptions import MlflowException
from numpy.typing import NDArray

from fmnist_tuning import DEFAULT_STUDY
from fmnist_tuning.errors import TrackingError, WeightsError
from fmnist_tuning.metrics import ACCURACY
from fmnist_tuning.store import records, uris
from fmnist_tuning.store.records import WEIGHTS, TrackedRun
from fmnist_tuning.store.study import Study
from fmnist_tuning.store.uris import public, translated
from fmnist_tuning.text import file_name

if TYPE_CHECKING:
    from torch import nn

ALIAS: Final = "champion"
_MODEL: Final = "fashion_mnist_cnn"

_SHOWN: Final = (ACCURACY, "test_accuracy", "final_val_loss")
_LONG_VALUE: Final = 100
_CLASSES: Final = "fmnist.classes"
_LONG_TAG: Final = 5_000
_MISSING: Final = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")
_PACKAGE: Final = Path(__file__).parents[1]


def model_name(study: str) -> str:
    """The name that a study's champion is registered under; a trial never replaces another's."""
    return _MODEL if study == DEFAULT_STUDY else f"{_MODEL}-{file_name(study)}"


def champion_uri(study: str) -> str:
    """The address by which MLflow loads a study's champion."""
    return f"models:/{model_name(study)}@{ALIAS}"


@dataclass(frozen=True, slots=True)
class Champion:
    """A version of the registered model, with the training that made it and its weights."""

    version: str
    run: TrackedRun
    weights: bytes
    classes: tuple[str, ...] = ()  # the names of a person's own


class Registry:
    """The model registry of a store; every method raises `TrackingError` if the store fails."""

    def __init__(self, uri: str) -> None:
        self._uri = uri
        self._client = MlflowClient(tracking_uri=uri, registry_uri=uri)

    @classmethod
    def existing(cls, tracking_uri: str | None = None) -> "Registry":
        """Open a store's registry without creating anything."""
        uri = uris.existing(tracking_uri)
        if uri is None:
            raise TrackingError(
                f"there is no store at {public(uris.resolve(tracking_uri))}; `fmnist run` makes "
                "one, and --tracking-uri names another"
            )
        with translated(uri):
            return cls(uri)

    def weights(self, run: TrackedRun) -> bytes | None:
        """The weights of a training, whose SHA-256 must match the one recorded in the run.

        Imported runs have no weights (None). Other weights are a `WeightsError`.
        """
        with translated(self._uri), tempfile.TemporaryDirectory() as folder:
            if WEIGHTS not in {found.path for found in self._client.list_artifacts(run.run_id)}:
                return None
            path = self._client.download_artifacts(run.run_id, WEIGHTS, folder)
            content = Path(path).read_bytes()
        found = records.content_digest(content)
        if run.tags.get(records.WEIGHTS_DIGEST, found) != found:
            raise WeightsError(
                f"{WEIGHTS} of the run {run.run_id} is not the file that its training wrote: the "
                "SHA-256 differs; train the run's sweep again with `fmnist run ... --force`"
            )
        return content

    def keep_weights(self, run: TrackedRun, content: bytes) -> None:
        """Store the weights of a training that has none yet."""
        with translated(self._uri), tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / WEIGHTS
            path.write_bytes(content)
            self._client.log_artifact(run.run_id, str(path))

    def champion(self, study: str) -> Champion:
        """A study's champion; `WeightsError` if its network is missing or damaged."""
        Study.find(study, self._uri)  # its project may have been moved
        found = self._bearer(model_name(study))
        if found is None:
            raise TrackingError(
                f"no model is registered as {model_name(study)}@{ALIAS} in {public(self._uri)}; "
                f"`fmnist champion` registers the best of the study {study}, and --study names "
                "another"
            )
        with translated(self._uri):
            run = records.tracked_run(self._client.get_run(found.run_id))
        content = self.weights(run)
        if content is None:
            raise WeightsError(
                f"the champion's run {run.run_id} has no {WEIGHTS} any more; `fmnist champion` "
                "registers another"
            )
        names = json.loads(found.tags.get(_CLASSES, "[]"))
        return Champion(str(found.version), run, content, tuple(map(str, names)))

    def name_classes(self, study: str, classes: Sequence[str]) -> None:
        """Keep the names of a person's own classes with the study's champion."""
        names, bearer = json.dumps(classes), self._bearer(model_name(study))
        if bearer is not None and len(names) < _LONG_TAG:
            with translated(self._uri):
                self._client.set_model_version_tag(
                    model_name(study), bearer.version, _CLASSES, names
                )

    def register(
        self,
        study: Study,
        run: TrackedRun,
        model: "nn.Module",
        images: NDArray[np.uint8],
        probabilities: NDArray[np.float32],
        *,
        about: str,
    ) -> str:
        """Log the model of a training, unless it is registered already, and give it the alias.

        Args:
            study: The study of the run.
            run: The training.
            model: On the CPU, in evaluation mode; uint8 images to float32 probabilities.
            images: An example of the model's input, at least two images.
            probabilities: The model's output for these images.
            about: What the model is, in a sentence.

        Returns:
            The version.
        """
        name = model_name(study.name)
        bearer = self._bearer(name)
        if bearer is not None and bearer.run_id == run.run_id:
            return str(bearer.version)
        with translated(self._uri):
            earlier = self._client.search_model_versions(f"name = '{name}'")
            version = next((v.version for v in earlier if v.run_id == run.run_id), None)
            if version is None:
                save = partial(_save, model, images, probabilities)
                version = self._new_version(study, run, save, about)
            self._client.set_registered_model_alias(name, ALIAS, version)
        return str(version)

    def _new_version(
        self,
        study: Study,
        run: TrackedRun,
        save: Callable[[Path, dict[str, str]], None],
        about: str,
    ) -> str:
        client, name = self._client, model_name(study.name)
        logged = client.create_logged_model(
            study.experiment_id, name, run.run_id, params=dict(run.params)
        )
        try:
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "model"
                save(path, {"model_id": logged.model_id, "run_id": run.run_id})
                client.log_model_artifacts(logged.model_id, str(path))
        except BaseException:
            client.finalize_logged_model(logged.model_id, "FAILED")
            raise
        client.finalize_logged_model(logged.model_id, "READY")
        client.log_outputs(run.run_id, [LoggedModelOutput(logged.model_id, step=0)])
        try:
            client.create_registered_model(
                name,
                description="Classifiers of Fashion-MNIST. The version with the alias "
                f"{ALIAS} is the best network of the study {study.name}.",
            )
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        made = client.create_model_version(
            name,
            logged.artifact_location,  # with `models:/...` MLflow would look in its default store
            run.run_id,
            # MLflow's page shows tags of a version, but not the metrics and params of its run.
            {key: f"{run.metrics[key]:.4f}" for key in _SHOWN if key in run.metrics}
            | {key: run.params[key] for key in run.params if len(run.params[key]) < _LONG_VALUE},
            description=about,
            model_id=logged.model_id,
        )
        return str(made.version)

    def _bearer(self, name: str) -> Any:
        """MLflow's version that has the alias, if there is one."""
        with translated(self._uri):
            try:
                return self._client.get_model_version_by_alias(name, ALIAS)
            except MlflowException as error:
                if error.error_code in _MISSING:
                    return None
                raise


def _save(
    model: "nn.Module",
    images: NDArray[np.uint8],
    probabilities: NDArray[np.float32],
    path: Path,
    ids: dict[str, str],
) -> None:
    import mlflow.pytorch  # noqa: PLC0415  brings torch
    from mlflow.models import Model, ModelSignature  # noqa: PLC0415
    from mlflow.types import Schema, TensorSpec  # noqa: PLC0415

    signature = ModelSignature(
        Schema([TensorSpec(np.dtype(np.uint8), (-1, *images.shape[1:]))]),
        Schema([TensorSpec(np.dtype(np.float32), (-1, *probabilities.shape[1:]))]),
    )
    # We name the requirements: to find them, MLflow would load the model in another process (6 to
    # 22 s).
    names = ("mlflow", "torch", "numpy")
    requirements = [f"{name}=={version(name).partition('+')[0]}" for name in names]
    # An exported program needs none of our code and holds no pickle, which could run anything.
    # MLflow 3.8 can only pickle the module, so our code must be saved with it.
    options = inspect.signature(mlflow.pytorch.save_model).parameters
    how: dict[str, Any] = {"code_paths": [str(_PACKAGE)]}
    if "serialization_format" in options:
        how = {"serialization_format": "pt2"}
    elif "export_model" in options:
        how = {"export_model": True}
    with warnings.catch_warnings():
        # torch.export warns about channels-last weights, but saves them correctly.
        warnings.filterwarnings("ignore", "No complete tensor found")
        mlflow.pytorch.save_model(
            model,
            str(path),
            mlflow_model=Model(artifact_path=_MODEL, **ids),
            signature=signature,
            input_example=images,
            pip_requirements=requirements,
            **how,
        )
