"""A world of houses on disk: made in parallel, house by house, taken up again where it was left."""

from __future__ import annotations

import json
import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from envs.houses.guide import guide_of
from envs.houses.house import draw_house
from envs.houses.panorama import skybox
from envs.houses.pictures import image_file, image_id, picture_views, write_pictures
from envs.houses.routes import draw_routes
from envs.houses.views import house_views
from envs.houses.vision_language import language_files, write_language_files
from envs.houses.writer import (
    connectivity,
    depth_file,
    route_items,
    scene_graph,
    skybox_file,
    write_depth,
    write_json,
    write_skybox,
    write_world_files,
)

FORMAT = 2
TRAIN, UNSEEN = 0, 1
SPLITS = ("train", "val_seen", "val_unseen", "test")
MOST_HOUSES = 1000


@dataclass(frozen=True)
class WorldConfig:
    """What determines the bytes of a world: seed, numbers of houses, edge of a skybox face, routes per house,
    whether depth and the data of vision-and-language tasks are written."""

    seed: int
    train: int
    unseen: int
    face_px: int
    train_routes: int
    eval_routes: int
    depth: bool = False
    tasks: bool = True


@dataclass(frozen=True)
class HouseJob:
    """One house to make: its place in the world and where its files go."""

    out: Path
    config: WorldConfig
    stream: int
    number: int

    @property
    def scan(self) -> str:
        return f"s{self.config.seed}{'tu'[self.stream]}{self.number:03d}"

    @property
    def file(self) -> Path:
        return self.out / "houses" / f"{self.scan}.json"


def check_config(config: WorldConfig) -> None:
    """ValueError for a world that cannot be made."""
    if config.seed < 0:
        raise ValueError(f"--seed is {config.seed}; expected 0 or more")
    if config.train < 1 or config.unseen < 0 or config.train + config.unseen > MOST_HOUSES:
        raise ValueError(
            f"--train {config.train} --unseen {config.unseen}; expected at least 1 house to train in, 0 or more unseen "
            f"ones, {MOST_HOUSES} in all"
        )
    if not 32 <= config.face_px <= 2048:
        raise ValueError(f"--face-px is {config.face_px}; expected 32 to 2048 pixels for a face of the skybox")
    if config.train_routes < 1 or config.eval_routes < 1:
        raise ValueError(
            f"--train-routes {config.train_routes} --eval-routes {config.eval_routes}; expected at least 1 per house"
        )


def make_world(
    out: Path, config: WorldConfig, workers: int = 1, on_house: Callable[[int, int], None] | None = None
) -> dict[str, int]:
    """Makes the houses that are not there yet, then the files of the world.

    Args:
        out: its folder; a world of the same settings that was interrupted is finished.
        config: what to make.
        workers: processes.
        on_house: told (houses done, houses in all) at the beginning and after each house.

    Returns:
        The number of routes of each split.

    Raises:
        ValueError: impossible settings; a folder that is a file or holds a world of other settings.
    """
    check_config(config)
    if workers < 1:
        raise ValueError(f"--workers is {workers}; expected at least 1 process")
    _claim(out, config)
    jobs = [HouseJob(out, config, TRAIN, i) for i in range(config.train)]
    jobs += [HouseJob(out, config, UNSEEN, i) for i in range(config.unseen)]
    missing = [job for job in jobs if not is_made(job)]
    done = len(jobs) - len(missing)
    report = on_house or (lambda *_: None)
    report(done, len(jobs))
    for i, _ in enumerate(_run(missing, workers), start=1):
        report(done + i, len(jobs))
    houses = [json.loads(job.file.read_text()) for job in jobs]
    if config.tasks and (missing or not all(file.is_file() for file in language_files(out))):
        write_language_files(out, (houses[: config.train], houses[config.train :]), config.seed)
    return write_world_files(out, houses, SPLITS)


def _claim(out: Path, config: WorldConfig) -> None:
    """Writes world.json, or checks that the one there says the same."""
    if out.exists() and not out.is_dir():
        raise ValueError(f"--out {out} is a file; expected a folder, or a name that is free")
    file = out / "world.json"
    wanted = {"format": FORMAT, **asdict(config)}
    if not file.is_file():
        write_json(file, wanted)
        return
    try:
        found = json.loads(file.read_text())
    except (json.JSONDecodeError, UnicodeDecodeError):
        found = None
    if found != wanted:
        raise ValueError(
            f"{file} says that {out} holds another world: {found}; asked for: {wanted}. "
            "Name another folder with --out, or remove this one"
        )


def is_made(job: HouseJob) -> bool:
    """Whether the house's file is there, whole, with all of its panoramas."""
    try:
        house = json.loads(job.file.read_text())
    except (OSError, json.JSONDecodeError, UnicodeDecodeError):
        return False
    viewpoints = [item["image_id"] for item in house["connectivity"]]
    kinds = (skybox_file, depth_file) if job.config.depth else (skybox_file,)
    files = [kind(job.out, job.scan, viewpoint) for viewpoint in viewpoints for kind in kinds]
    for row, viewpoint in enumerate(house["viewpoints"]):
        files += picture_files(job, row, viewpoint["pictures"])
    return all(file.is_file() for file in files)


def picture_files(job: HouseJob, row: int, views: Sequence[int]) -> list[Path]:
    """Where the pictures of some views of a viewpoint lie."""
    return [image_file(job.out, job.stream, image_id(job.stream, job.number, row, view)) for view in views]


def make_house(job: HouseJob) -> str:
    """Draws and writes a house; its JSON file comes last and says that the house is whole. Returns the scan."""
    config = job.config
    house = draw_house(job.scan, config.seed, job.stream, job.number)
    facts = {"scan": job.scan, **scene_graph(house, house_views(house)), "connectivity": connectivity(house.graph)}
    for row, (viewpoint, eye) in enumerate(zip(house.graph.viewpoint, house.graph.position_m, strict=True)):
        rgb, distance_m = skybox(house.stage, eye.tolist(), config.face_px)
        write_skybox(skybox_file(job.out, job.scan, viewpoint), rgb)
        views = picture_views(facts, row) if config.tasks else []
        facts["viewpoints"][row]["pictures"] = views
        if views:
            write_pictures(rgb, views, picture_files(job, row, views))
        if config.depth:
            write_depth(depth_file(job.out, job.scan, viewpoint), distance_m)
    names = ("train", "val_seen") if job.stream == TRAIN else ("val_unseen", "test")
    counts = (config.train_routes, max(config.train_routes // 8, 1))
    if job.stream == UNSEEN:
        counts = (config.eval_routes, max(config.eval_routes // 2, 1))
    rng = np.random.default_rng([config.seed, job.stream, job.number, 10**6])
    routes = route_items(house, draw_routes(rng, guide_of(house), sum(counts)))
    least = max(len(routes) - counts[1], 0)
    first = min(counts[0], least)
    split = {names[0]: routes[:first], names[1]: routes[first : first + counts[1]]}
    write_json(job.file, {**facts, "routes": split})
    return job.scan


def _run(jobs: Sequence[HouseJob], workers: int) -> Iterator[str]:
    """Makes the houses, as they come."""
    workers = min(workers, len(jobs))
    if workers <= 1:
        yield from map(make_house, jobs)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        futures = [pool.submit(make_house, job) for job in jobs]
        try:
            for future in as_completed(futures):
                yield future.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def default_workers() -> int:
    """The cores that this process may use."""
    affinity: Any = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1
