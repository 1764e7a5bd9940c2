"""How MLflow's own page shows a study: a saved view of its runs, and their data set."""

import json
import time
from typing import Any, Final

from mlflow.entities import Dataset, DatasetInput, InputTag

from fmnist_tuning.metrics import ACCURACY

SHARE_KEY: Final = "fmnist"
"""What an address names the view by."""

VIEW: Final = f"mlflow.sharedViewState.{SHARE_KEY}"
"""The experiment's tag that holds the view. MLflow's page lists such tags under *Views*."""

_PARAMS: Final = ("dropout_rate", "use_batch_norm", "num_conv_layers", "use_pooling", "seed")
_FIRST: Final = ("val_accuracy", "train_accuracy", "val_loss", "train_loss")
_METRICS: Final = (ACCURACY, "final_val_loss")

# Newer versions of MLflow's page fill in what a view lacks; 3.8 shows nothing without these.
_EMPTY: Final[dict[str, Any]] = {
    "columnOrder": [],
    "runsExpanded": {},
    "runsPinned": [],
    "runsHidden": [],
    "runsVisibilityMap": {},
    "groupsExpanded": {},
    "groupBy": None,
    "viewMaximized": False,
    "runListHidden": False,
    "isAccordionReordered": False,
    "useGroupedValuesInCharts": True,
    "hideEmptyCharts": True,
    "autoRefreshEnabled": True,
    "globalLineChartConfig": {"xAxisKey": "step", "lineSmoothness": 0},
}


def view(search: str) -> str:
    """A view of the runs that `search` finds: learning curves, and what the runs differ in.

    MLflow documents no format. This one is what the pages of MLflow 3.8 and 3.17 read: the older
    reads the state itself, the newer a name with the state as text.
    """
    state = {
        "searchFilter": search,
        "orderByKey": "attributes.start_time",
        "orderByAsc": False,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "modelVersionFilter": "All Runs",
        "selectedColumns": [
            "attributes.`Dataset`",
            *(f"metrics.`{metric}`" for metric in _METRICS),
            *(f"params.`{param}`" for param in _PARAMS),
        ],
        "runsHiddenMode": "FIRST_20_RUNS",
        "compareRunCharts": [
            *(_chart(metric, "LINE") for metric in _FIRST),
            _chart(ACCURACY, "BAR"),
        ],
        "compareRunSections": [
            {"uuid": "curves", "name": "Learning curves", "display": True, "isReordered": False},
            {"uuid": "rest", "name": "Model metrics", "display": False, "isReordered": False},
        ],
    }
    now = int(time.time() * 1000)
    text = json.dumps(state, separators=(",", ":"))
    named = {"name": "fmnist", "createdAt": now, "updatedAt": now, "state": text}
    return json.dumps({**state, **_EMPTY, **named}, separators=(",", ":"))


def _chart(metric: str, kind: str) -> dict[str, Any]:
    line = {"range": {}, "useGlobalXaxisKey": True, "useGlobalLineSmoothing": True}
    return {
        "uuid": metric,
        "type": kind,
        "metricKey": metric,
        "displayName": metric,
        "metricSectionId": "curves",
        "isGenerated": True,
        "deleted": False,
        **(line if kind == "LINE" else {}),
    }


def dataset(name: str, digest: str) -> DatasetInput:
    """The images of a run, for the page's column *Dataset*."""
    images = Dataset(name, digest, "local", json.dumps({"uri": name}))
    return DatasetInput(images, [InputTag("mlflow.data.context", "training")])
