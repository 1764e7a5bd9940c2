"""The commands that plan and train: `run` and `plan`."""

import contextlib
import dataclasses
import json
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

import typer

from fmnist_tuning import DEFAULT_STUDY, options
from fmnist_tuning.errors import FmnistError, TrackingError

if TYPE_CHECKING:
    from rich.console import Console

    from fmnist_tuning.data.files import DataFiles
    from fmnist_tuning.running.events import PlanResults
    from fmnist_tuning.running.executor import Executor
    from fmnist_tuning.running.trainer import Device
    from fmnist_tuning.store.study import Study
    from fmnist_tuning.sweeps.plan import Plan
    from fmnist_tuning.sweeps.sweep import Sweep


def run(
    configs: options.Configs,
    *,
    settings: options.Settings = None,
    seeds: options.Seeds = None,
    device: options.DeviceName = "auto",
    jobs: options.Jobs = "auto",
    executor: options.Executor = "local",
    address: options.Address = None,
    gpus_per_run: options.GpusPerRun = None,
    experiment: options.Experiment = DEFAULT_STUDY,
    tracking_uri: options.TrackingUri = None,
    data_dir: options.DataDir = None,
    decide: options.Decide = False,
    max_seeds: options.MaxSeeds = None,
    budget: options.Budget = None,
    force: options.Force = False,
    replace: options.Replace = False,
    fail_fast: options.FailFast = False,
    quiet: options.Quiet = False,
    as_json: options.Json = False,
) -> None:
    """Train the runs that the study does not have yet, and track them in MLflow."""
    limits = options.limits(decide=decide, max_seeds=max_seeds, budget=budget, force=force)
    cluster = options.cluster(executor, address, gpus_per_run)
    from fmnist_tuning.inputs import digest_of, images_of, own_shapes, read_sweeps

    sweeps, workers = read_sweeps(configs, settings, seeds), options.parse_jobs(jobs)
    _prepare(cluster, device, workers)

    from fmnist_tuning import terminal

    # What follows loads MLflow, which takes seconds.
    out = terminal.console(stderr=True, quiet=quiet)
    terminal.facts(out, {"plan": ", ".join(sweep.id for sweep in sweeps)})

    from fmnist_tuning.reading import Reading
    from fmnist_tuning.report.study import as_records, read_study
    from fmnist_tuning.store.study import Study

    sets = images_of(sweeps, data_dir)
    if shapes := own_shapes(sets):
        sweeps = read_sweeps(configs, settings, seeds, shapes)
    study = dataclasses.replace(Study.open(experiment, tracking_uri), watch=Reading(out))
    terminal.facts(
        out,
        {
            "study": f"{study.name} in {study.place}",
            "data": "; ".join(f"{files.described}, verified, in {files.folder}" for files in sets),
        },
    )
    if study.caution:
        out.print(terminal.escape(study.caution), style="yellow", soft_wrap=True)
    with closing(_executor(cluster, sets, device, workers)) as chosen:
        training = _Training(out, study, digest_of(sets), chosen, force, replace, fail_fast)
        results = training.decide(sweeps, limits) if limits else training.train(sweeps)[1]
    there = sorted(results.finished)
    found = read_study(study, only=there) if there else None
    if as_json:
        runs = results.as_json()
        judged = {"runs": runs, "sweeps": as_records(found) if found else []}
        typer.echo(json.dumps(judged if decide else runs, indent=2))
    else:
        terminal.print_outcome(terminal.console(), results, found.every if found else {})
    terminal.print_next(out, study)
    if results.failures:
        failed = terminal.escape(f"failed: {', '.join(results.failures)}")
        out.print(failed, style="red")
        raise typer.Exit(1)


@dataclass(frozen=True, slots=True)
class _Training:
    out: "Console"
    study: "Study"
    data_digest: str
    executor: "Executor"
    force: bool
    replace: bool
    fail_fast: bool

    def train(self, sweeps: "Sequence[Sweep]") -> "tuple[Plan, PlanResults]":
        """Plan the sweeps, and train what is missing."""
        planned = self.plan(sweeps)
        return planned, self.execute(planned)

    def plan(self, sweeps: "Sequence[Sweep]") -> "Plan":
        """Plan the sweeps; say which of them are judged at planned looks from now on."""
        from fmnist_tuning.outlook import print_looks
        from fmnist_tuning.running.planning import plan_study

        planned = plan_study(
            sweeps, self.study, self.data_digest, force=self.force, replace=self.replace
        )
        for before, sweep in zip(sweeps, planned.sweeps, strict=True):
            if sweep.looks and not before.looks:
                print_looks(self.out, sweep)
        return planned

    def execute(self, planned: "Plan", before: "PlanResults | None" = None) -> "PlanResults":
        """Train what the plan lacks; `before` are results that were shown already."""
        from fmnist_tuning.progress import follow
        from fmnist_tuning.running.engine import execute

        happening = execute(
            planned,
            self.study,
            self.data_digest,
            self.executor,
            force=self.force,
            fail_fast=self.fail_fast,
        )
        return follow(self.out, planned, happening, before.fingerprints if before else ())

    def decide(self, sweeps: "Sequence[Sweep]", limits: options.Limits) -> "PlanResults":
        """Look after look, until all claims are decided or a limit is reached."""
        from fmnist_tuning.deciding import first_looks, next_look, states
        from fmnist_tuning.outlook import print_over_budget, print_states
        from fmnist_tuning.report.study import read_study

        workers = self.executor.expected
        stored = {found.sweep: found.definition.parsed for found in self.study.sweeps()}
        asked: Sequence[Sweep] = first_looks(sweeps, stored)
        began, results = time.monotonic(), None
        while True:
            planned = self.plan(asked)
            seconds, left = planned.seconds(workers), limits.seconds - (time.monotonic() - began)
            trainings = len(planned.trainings) + planned.pending_runs
            if trainings and (seconds or 0.0) > left:
                print_over_budget(self.out, trainings, seconds)
                if results is None:
                    raise FmnistError("--budget: it is too short for the first look")
                return results
            results = self.execute(planned, results)
            there = [sweep.id for sweep in asked if sweep.id in results.finished]
            if not there:
                return results
            every = read_study(self.study, only=there).every
            asked = [every[sweep.id].sweep if sweep.id in every else sweep for sweep in asked]
            found = states(asked, every, limits.seeds)
            print_states(self.out, found, every, workers)
            further = next_look(asked, found, every)
            # What was run now, not what the store says: another command may have extended it since.
            ran = {sweep.id: sweep.arm_seeds for sweep in planned.sweeps}
            grown = {sweep.id: sweep.arm_seeds for sweep in further}
            if grown == ran or (self.fail_fast and results.failures):
                return results
            asked = further


def plan(
    configs: options.Configs,
    *,
    settings: options.Settings = None,
    seeds: options.Seeds = None,
    device: options.DeviceName = "auto",
    jobs: options.Jobs = "auto",
    experiment: options.Experiment = DEFAULT_STUDY,
    tracking_uri: options.TrackingUri = None,
    data_dir: options.DataDir = None,
    decide: options.Decide = False,
    max_seeds: options.MaxSeeds = None,
    force: options.Force = False,
    replace: options.Replace = False,
    as_json: options.Json = False,
) -> None:
    """List every run, and whether it would be trained, reused or shared. Nothing is trained."""
    limits = options.limits(decide=decide, max_seeds=max_seeds, budget=None, force=force)
    from fmnist_tuning.inputs import digest_of, images_of, own_shapes, read_sweeps

    sweeps, workers = read_sweeps(configs, settings, seeds), options.parse_jobs(jobs)

    from fmnist_tuning.running.pool import automatic_workers, check_device

    check_device(device)

    from fmnist_tuning import terminal
    from fmnist_tuning.deciding import first_looks, forecasts, last_look, states
    from fmnist_tuning.outlook import print_at_most, print_forecasts
    from fmnist_tuning.plan_table import print_plan
    from fmnist_tuning.reading import Reading
    from fmnist_tuning.report.study import read_study
    from fmnist_tuning.running.planning import plan_study
    from fmnist_tuning.store.snapshot import Snapshot
    from fmnist_tuning.store.study import Study

    sets = images_of(sweeps, data_dir)
    if shapes := own_shapes(sets):
        sweeps = read_sweeps(configs, settings, seeds, shapes)
    study = Study.find(experiment, tracking_uri)
    if study:
        study = Snapshot.of(
            dataclasses.replace(study, watch=Reading(terminal.console(stderr=True)))
        )
    if limits:
        known = study.sweeps() if study else []
        stored = {found.sweep: found.definition.parsed for found in known}
        sweeps = first_looks(sweeps, stored)
    planned = plan_study(sweeps, study, digest_of(sets), force=force, replace=replace)
    if as_json:
        typer.echo(json.dumps(planned.as_json(), indent=2))
        return
    workers = workers or automatic_workers(device)
    out = terminal.console()
    print_plan(out, planned, workers)
    every = {}
    with contextlib.suppress(TrackingError):  # none of its sweeps has a finished run
        if study:
            every = read_study(study, partly=True).every
    claims = sum(len(sweep.claims) for sweep in planned.sweeps)
    print_forecasts(out, [*forecasts(planned.sweeps, every)], claims)
    if limits:
        found = states(planned.sweeps, every, limits.seeds)
        full = [last_look(sweep, limits.seeds, found) for sweep in planned.sweeps]
        most = plan_study(full, study, digest_of(sets), force=force, replace=replace)
        print_at_most(out, most, workers)


def _prepare(cluster: options.Cluster | None, device: "Device", jobs: int | None) -> None:
    """Find out at once whether there is anything to train with; load PyTorch meanwhile."""
    if cluster is None:
        from fmnist_tuning.running.pool import check_device, warm_up

        check_device(device)
        warm_up()
    else:
        from fmnist_tuning.running.cluster import begin

        begin(cluster.address, jobs)


def _executor(
    cluster: options.Cluster | None,
    sets: "Sequence[DataFiles]",
    device: "Device",
    jobs: int | None,
) -> "Executor":
    if cluster is None:
        from fmnist_tuning.running.pool import WorkerPool

        return WorkerPool(sets, device, jobs)

    from fmnist_tuning.running.ray_pool import RayPool

    return RayPool(sets, device, jobs, cluster.gpus_per_run)
