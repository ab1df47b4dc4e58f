"""Presets: find, override, validate, and build the system that one describes."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from pydantic import Field

from melotte.engine.settings import LocalSettings, Settings, TrainingSettings
from melotte.errors import MelotteFileError, MelotteValueError

if TYPE_CHECKING:
    from melotte.systems.base import System


class Preset(Settings):
    """A validated preset: what is simulated, the network, and how it trains.

    ``data`` and ``model`` are the system's own settings, ``training`` is the engine's, and
    ``local`` (device, threads, logs) has no effect on the result.
    """

    name: str
    system: str
    data: dict[str, Any] = Field(default_factory=dict)
    model: dict[str, Any] = Field(default_factory=dict)
    training: TrainingSettings = TrainingSettings()
    local: LocalSettings = LocalSettings()


def preset_names() -> tuple[str, ...]:
    """Names of the presets that are shipped."""
    folder = files("melotte") / "presets"
    return tuple(
        sorted(
            entry.name.removesuffix(".yaml")
            for entry in folder.iterdir()
            if entry.name.endswith(".yaml")
        )
    )


def load_preset(source: str | Path, overrides: Sequence[str] = ()) -> Preset:
    """Read a preset and apply overrides.

    Parameters
    ----------
    source : str or Path
        Name of a shipped preset, or a YAML file.
    overrides : sequence of str
        ``section.key=value`` with a YAML value, such as ``training.batch_size=64``.

    Returns
    -------
    Preset

    Raises
    ------
    MelotteValueError
        When the preset or a key is unknown, or a value is not allowed.
    MelotteFileError
        When the file cannot be read.
    """
    preset = overridden(*_read(source), overrides)
    build_system(preset)
    return preset


def overridden(content: Mapping[str, Any], origin: str, overrides: Sequence[str]) -> Preset:
    """A preset's content, of ``origin``, with other settings, ``section.key=value`` each.

    Raises
    ------
    MelotteValueError
        When a key is unknown, or a value is not allowed.
    """
    changed = copy.deepcopy(dict(content))
    for override in overrides:
        _apply(changed, override)
    return validated(changed, origin)


def validated(content: Mapping[str, Any], origin: str) -> Preset:
    """Validate a preset's content; ``origin`` names it in the error message."""
    try:
        return Preset.parse(content)
    except MelotteValueError as error:
        raise MelotteValueError(f"preset {origin}: {error}") from error


def build_system(preset: Preset | Mapping[str, Any]) -> System:
    """Build the system that a preset describes.

    Parameters
    ----------
    preset : Preset or mapping
        A mapping is what a model file or a bank stores.

    Raises
    ------
    MelotteValueError
        When the system is unknown or its settings are not allowed.
    """
    if not isinstance(preset, Preset):
        preset = validated(preset, str(preset.get("name", "?")))
    if preset.system not in _BUILDERS:
        raise MelotteValueError(
            f"preset {preset.name}: system {preset.system!r} is unknown; "
            f"known: {', '.join(SYSTEMS)}"
        )
    try:
        return _BUILDERS[preset.system](preset.data, preset.model)
    except MelotteValueError as error:
        raise MelotteValueError(f"preset {preset.name}: {error}") from error


def _open_cluster(data: Mapping[str, Any], model: Mapping[str, Any]) -> System:
    from melotte.systems.open_cluster.settings import DataSettings, ModelSettings
    from melotte.systems.open_cluster.system import OpenCluster

    return OpenCluster(DataSettings.parse(data, "data"), ModelSettings.parse(model, "model"))


def _branco_ferraz(data: Mapping[str, Any], model: Mapping[str, Any]) -> System:
    from melotte.systems.branco_ferraz.settings import DataSettings, model_settings
    from melotte.systems.branco_ferraz.system import BrancoFerraz

    return BrancoFerraz(DataSettings.parse(data, "data"), model_settings(model, "model"))


def _galaxy_cluster(data: Mapping[str, Any], model: Mapping[str, Any]) -> System:
    from melotte.systems.galaxy_cluster.settings import DataSettings, ModelSettings
    from melotte.systems.galaxy_cluster.system import GalaxyCluster

    return GalaxyCluster(DataSettings.parse(data, "data"), ModelSettings.parse(model, "model"))


def _ho2019(data: Mapping[str, Any], model: Mapping[str, Any]) -> System:
    from melotte.systems.ho2019.settings import DataSettings, ModelSettings
    from melotte.systems.ho2019.system import Ho2019

    return Ho2019(DataSettings.parse(data, "data"), ModelSettings.parse(model, "model"))


def _cluster_images(data: Mapping[str, Any], model: Mapping[str, Any]) -> System:
    from melotte.systems.cluster_images.settings import DataSettings, ModelSettings
    from melotte.systems.cluster_images.system import ClusterImages

    return ClusterImages(DataSettings.parse(data, "data"), ModelSettings.parse(model, "model"))


def _paper_one(data: Mapping[str, Any], model: Mapping[str, Any]) -> System:
    from melotte.systems.bialopetravicius.settings import PaperOneSettings
    from melotte.systems.bialopetravicius.system import PaperOne
    from melotte.systems.cluster_images.settings import DataSettings

    return PaperOne(DataSettings.parse(data, "data"), PaperOneSettings.parse(model, "model"))


def _paper_two(data: Mapping[str, Any], model: Mapping[str, Any]) -> System:
    from melotte.systems.bialopetravicius.settings import PaperTwoSettings
    from melotte.systems.bialopetravicius.system import PaperTwo
    from melotte.systems.cluster_images.settings import DataSettings

    return PaperTwo(DataSettings.parse(data, "data"), PaperTwoSettings.parse(model, "model"))


def _globular_clusters(data: Mapping[str, Any], model: Mapping[str, Any]) -> System:
    from melotte.systems.globular_clusters.settings import DataSettings, ModelSettings
    from melotte.systems.globular_clusters.system import GlobularClusters

    return GlobularClusters(DataSettings.parse(data, "data"), ModelSettings.parse(model, "model"))


def _chardin_bianchini(data: Mapping[str, Any], model: Mapping[str, Any]) -> System:
    from melotte.systems.chardin_bianchini.settings import PiDocSettings
    from melotte.systems.chardin_bianchini.system import PiDoc
    from melotte.systems.globular_clusters.settings import DataSettings

    return PiDoc(DataSettings.parse(data, "data"), PiDocSettings.parse(model, "model"))


_BUILDERS: dict[str, Callable[[Mapping[str, Any], Mapping[str, Any]], System]] = {
    "open-cluster": _open_cluster,
    "branco-ferraz": _branco_ferraz,
    "galaxy-cluster": _galaxy_cluster,
    "ho2019": _ho2019,
    "cluster-images": _cluster_images,
    "bialopetravicius2019": _paper_one,
    "bialopetravicius2020": _paper_two,
    "globular-clusters": _globular_clusters,
    "chardin-bianchini": _chardin_bianchini,
}
"""What builds a system from its sections of a preset; a system's modules load when it is built."""

SYSTEMS = tuple(_BUILDERS)
"""Names of the systems."""


def _read(source: str | Path) -> tuple[dict[str, Any], str]:
    name = str(source)
    if name in preset_names():
        text = (files("melotte") / "presets" / f"{name}.yaml").read_text(encoding="utf-8")
    elif name.endswith((".yaml", ".yml")):
        try:
            text = Path(name).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise MelotteFileError(f"preset {name}: cannot be read ({error})") from error
    else:
        raise MelotteValueError(
            f"preset {name!r} is unknown; known: {', '.join(preset_names())}, "
            "or a path that ends in .yaml"
        )
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        line = str(error).splitlines()[0]
        raise MelotteFileError(f"preset {name}: not valid YAML ({line})") from error
    if not isinstance(content, dict):
        raise MelotteFileError(f"preset {name}: holds {type(content).__name__}, not a mapping")
    return content, name


def _apply(content: dict[str, Any], override: str) -> None:
    path, equals, text = override.partition("=")
    keys = path.split(".")
    if not equals or not all(keys) or len(keys) < 2:
        raise MelotteValueError(
            f"override {override!r} is not of the form section.key=value, "
            "such as training.batch_size=64"
        )
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise MelotteValueError(f"override {override!r}: the value is not valid YAML") from error
    target = content
    for key in keys[:-1]:
        target = target.setdefault(key, {})
        if not isinstance(target, dict):
            raise MelotteValueError(f"override {override!r}: {key!r} holds a value, not a section")
    target[keys[-1]] = value
