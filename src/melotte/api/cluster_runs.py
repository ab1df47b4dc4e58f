"""Evolving libraries of clusters: many runs, on several processes, resumable."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import MISSING, asdict, fields
from multiprocessing import active_children, get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

from melotte.errors import MelotteValueError, require
from melotte.named_words import named_words

if TYPE_CHECKING:
    from melotte.io.star_snapshots import StarSnapshot
    from melotte.sky.monte_carlo.evolution import ClusterEvolution
    from melotte.sky.monte_carlo.families import ClusterFamily

CHECKPOINT_SECONDS = 120.0
"""At least so long between two checkpoints of a run; each waits for the step in hand to end."""


def simulate_clusters(
    words: Sequence[str],
    output: str | Path | None = None,
    n: int = 1,
    *,
    seed: int = 0,
    task: int = 1,
    of: int = 1,
    workers: int = 1,
    progress: bool | None = None,
) -> Path:
    """Evolve clusters of a family and write them as a library.

    Interrupted, it goes on where it stopped when called again: finished runs and the last
    checkpoint of the others lie in a folder ``.<name>.parts`` beside the output.

    Parameters
    ----------
    words : sequence of str
        The family's name, then ``NAME=VALUE`` or ``NAME=LOW,HIGH`` of
        :class:`~melotte.sky.monte_carlo.families.ClusterFamily`.
    output : path, optional
        ``clusters.h5`` by default; with ``of`` > 1, ``clusters.0002-of-0016.h5`` and the like.
    n : int, >= 1
        Runs of the whole library, all shards together.
    seed : int, >= 0
    task, of : int
        This is shard ``task`` of ``of``: every ``of``-th run.
    workers : int, >= 1
        Processes.
    progress : bool, optional

    Returns
    -------
    Path

    Raises
    ------
    MelotteValueError
        When a word is not allowed.
    MelotteFileError
        When the output exists and is no library of clusters.
    MissingExtraError
        Without numba (``melotte[fast]``).
    """
    from melotte.engine.bank_writing import shard_path
    from melotte.sky.cluster_libraries import check_library_path

    require("numba", "fast")
    family = _family(words)
    if not 1 <= task <= of:
        raise MelotteValueError(f"task {task} of {of}: must be from 1 to {of}")
    if n < 1 or workers < 1 or seed < 0:
        raise MelotteValueError(
            f"n={n}, workers={workers}, seed={seed}: n and workers must be at least 1, seed 0"
        )
    path = Path("clusters.h5" if output is None else output)
    if of > 1 and not path.suffix:
        path = path.with_suffix(".h5")
    path = shard_path(path, task, of)
    check_library_path(path)
    folder = path.with_name(f".{path.name}.parts")
    folder.mkdir(parents=True, exist_ok=True)
    asked = {"family": asdict(family), "seed": seed, "n": n, "task": task, "of": of}
    _same_as_before(folder / "library.json", asked)
    numbers = range(task, n + 1, of)
    parts = [folder / f"{family.name}-{number:05d}.h5" for number in numbers]
    begun = time.time()
    try:
        _evolve_all(family, seed, list(numbers), parts, workers, progress)
    except KeyboardInterrupt as stop:
        raise KeyboardInterrupt(f"interrupted; the same command goes on from {folder}") from stop

    from melotte import __version__
    from melotte.sky.cluster_libraries import join_libraries

    about = {**asked, "melotte": __version__, "seconds": round(time.time() - begun, 1)}
    join_libraries(parts, path, about)
    for part in folder.iterdir():
        part.unlink()
    folder.rmdir()
    return path


def evolve_one(family: ClusterFamily, number: int, seed: int, path: Path) -> float:
    """Evolve one run into a library of its own; goes on from its checkpoint.

    Parameters
    ----------
    family : ClusterFamily
    number, seed : int
    path : Path
        Written when the run is done; ``.checkpoint`` and ``.unfinished`` beside it until then.

    Returns
    -------
    float
        Processor time, s.
    """
    import h5py

    from melotte.sky.cluster_libraries import RunWriter
    from melotte.sky.monte_carlo.evolution import ClusterEvolution
    from melotte.sky.monte_carlo.snapshots import (
        model_values,
        snapshot_of,
        write_checkpoint,
    )

    begun = time.process_time()
    checkpoint, unfinished = path.with_suffix(".checkpoint"), path.with_suffix(".unfinished")
    model = family.model(number, seed)
    name = f"{family.name}-{seed}-{number:05d}"
    kept: list[StarSnapshot] = []

    def write(history: Mapping[str, Any] | None) -> None:
        with h5py.File(unfinished, "a") as file:
            writer = RunWriter(file, name, family.name, model_values(model))
            for snapshot in kept:
                writer.add(snapshot)
            if history is not None:
                writer.close(history)
        kept.clear()

    cluster = _resumed(checkpoint, unfinished, name)
    if cluster is None:
        # A checkpoint left here would know of snapshots that the new file does not hold.
        checkpoint.unlink(missing_ok=True)
        unfinished.unlink(missing_ok=True)
        cluster = ClusterEvolution(model)
        write(None)
    times = family.times
    last = time.monotonic()

    def save_when_due() -> None:
        nonlocal last
        if time.monotonic() - last > CHECKPOINT_SECONDS:
            if kept:
                write(None)
            write_checkpoint(checkpoint, cluster)
            last = time.monotonic()

    def after_step(now: float) -> None:
        # At the time of a snapshot it has to be kept first: a resumed run would pass it over.
        if now not in times:
            save_when_due()

    for _ in cluster.run(family.until, times, after_step):
        kept.append(snapshot_of(cluster))
        save_when_due()
    write(asdict(cluster.history))
    unfinished.replace(path)
    checkpoint.unlink(missing_ok=True)
    return time.process_time() - begun


def _resumed(checkpoint: Path, unfinished: Path, name: str) -> ClusterEvolution | None:
    """The cluster of a checkpoint, its later snapshots dropped; None where there is none to use.

    A process that was killed as it wrote leaves files that cannot be read: such a run begins anew.
    """
    import h5py

    from melotte.sky.cluster_libraries import RunWriter
    from melotte.sky.monte_carlo.snapshots import model_values, read_checkpoint

    if not (checkpoint.exists() and unfinished.exists()):
        return None
    try:
        cluster = read_checkpoint(checkpoint)
        with h5py.File(unfinished, "a") as file:
            family = str(file[f"runs/{name}"].attrs["family"])
            writer = RunWriter(file, name, family, model_values(cluster.model))
            writer.forget_after(cluster.time)
    except (OSError, KeyError, IndexError, RuntimeError) as error:
        logging.getLogger(__name__).warning("%s begins anew: %s", name, error)
        return None
    return cluster


def _family(words: Sequence[str]) -> ClusterFamily:
    """The family that words of the command line name."""
    from melotte.sky.monte_carlo.families import FAMILIES, family_of

    if not words or "=" in words[0]:
        raise MelotteValueError(f"clusters of which family? There are {', '.join(FAMILIES)}")
    return family_of(words[0], named_words(words[1:]))


def _same_as_before(path: Path, asked: Mapping[str, Any]) -> None:
    """Refuse to go on with runs that were begun with other settings."""
    from melotte.engine.atomic_files import write_atomically

    text = json.dumps(asked, sort_keys=True)
    if path.exists() and _with_defaults(path.read_text()) != _with_defaults(text):
        raise MelotteValueError(
            f"{path.parent}: holds unfinished runs of other settings; finish those, or remove it"
        )
    write_atomically(path, text.encode())


def _with_defaults(text: str) -> Any:
    """Settings of a library; what a family of an older version lacks was at its default."""
    from melotte.sky.monte_carlo.families import ClusterFamily

    try:
        asked = json.loads(text)
        known = {
            one.name: one.default for one in fields(ClusterFamily) if one.default is not MISSING
        }
        return {**asked, "family": {**json.loads(json.dumps(known)), **asked["family"]}}
    except (KeyError, TypeError, ValueError):
        return None


def _evolve_all(
    family: ClusterFamily,
    seed: int,
    numbers: Sequence[int],
    parts: Sequence[Path],
    workers: int,
    progress: bool | None,
) -> None:
    from melotte.engine.progress import Progress

    waiting = [
        (number, part) for number, part in zip(numbers, parts, strict=True) if not part.exists()
    ]
    done = len(parts) - len(waiting)
    shown = Progress(len(parts), "clusters", done, style=progress)
    if workers == 1:
        try:
            for number, part in waiting:
                evolve_one(family, number, seed, part)
                done += 1
                shown.update(done)
        finally:
            shown.close()
        return
    context = get_context("spawn")
    others = set(active_children())
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        running: set[Future[float]] = set()
        try:
            while waiting or running:
                # None more than there are workers: what is queued cannot be called back.
                while waiting and len(running) < workers:
                    number, part = waiting.pop(0)
                    running.add(_submitted(pool, running, family, number, seed, part))
                finished, running = wait(running, return_when=FIRST_COMPLETED)
                for one in finished:
                    one.result()
                    done += 1
                    shown.update(done)
        except BaseException as error:
            # Runs take hours: they go on from their checkpoints when called again.
            for child in set(active_children()) - others:
                child.terminate()
            if isinstance(error, BrokenProcessPool):
                raise OSError(
                    "a process that evolved a cluster was killed, perhaps for want of memory; "
                    "call again, with fewer workers, to go on"
                ) from error
            raise
        finally:
            shown.close()


def _submitted(
    pool: ProcessPoolExecutor,
    running: Iterable[Future[float]],
    family: ClusterFamily,
    number: int,
    seed: int,
    part: Path,
) -> Future[float]:
    """One more run, handed to the pool.

    A pool closes its pipes when one of its processes is killed. Where another is being started
    just then, that fails for want of a pipe; the killed one is what the caller hears of.
    """
    try:
        return pool.submit(evolve_one, family, number, seed, part)
    except (OSError, ValueError) as error:
        for one in running:
            if one.done() and isinstance(broken := one.exception(), BrokenProcessPool):
                raise broken from error
        raise
