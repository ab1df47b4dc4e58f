"""Models by name: those that come with the package, and those in files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from melotte.errors import MelotteValueError

if TYPE_CHECKING:
    from melotte.engine.model_files import Model


def shipped_models() -> dict[str, Path]:
    """Names and files of the models that come with the package."""
    folder = Path(str(files("melotte") / "weights"))
    found = {path.stem: path for path in folder.glob("*.safetensors")}
    return dict(sorted(found.items()))


def model_path(name_or_path: str | Path) -> Path:
    """File of a shipped model's name, or the path itself.

    Raises
    ------
    MelotteValueError
        When it is neither a shipped name nor a path ending in .safetensors.
    """
    shipped = shipped_models()
    name = str(name_or_path)
    if name in shipped:
        return shipped[name]
    path = Path(name)
    if path.suffix != ".safetensors" and not path.is_file():
        raise MelotteValueError(
            f"model {name!r} is unknown; shipped: {', '.join(shipped) or 'none'}, "
            "or give a path that ends in .safetensors"
        )
    return path


def load(name_or_path: str | Path, device: str = "auto") -> Model:
    """Load a model by its shipped name or from its file.

    Parameters
    ----------
    name_or_path : str or Path
    device : str
        ``"auto"`` takes a GPU when there is one; else a torch device.

    Returns
    -------
    Model

    Raises
    ------
    MelotteFileError
        When the file is missing, truncated, or no melotte model.
    """
    from melotte.engine.model_files import load_model
    from melotte.systems.registry import build_system

    return load_model(model_path(name_or_path), build_system, device=torch_device(device))


def with_other_mocks(model: Model, overrides: Sequence[str]) -> Model:
    """A model judged on, or applied as to, mocks of other data settings than it was trained on.

    Parameters
    ----------
    model : Model
    overrides : sequence of str
        ``data.key=value``, such as ``data.library=mine.h5``.

    Returns
    -------
    Model
        The same network, constants and domain check, with another system.

    Raises
    ------
    MelotteValueError
        When a setting is not one of ``data``, is not allowed, or changes the parameters' ranges.
    """
    from melotte.systems.registry import build_system, overridden

    for one in overrides:
        if not one.startswith("data."):
            raise MelotteValueError(
                f"override {one!r}: a trained model's data settings can be changed, such as "
                "data.library=FILE; nothing else"
            )
    names = ("name", "system", "data", "model")
    preset = overridden({name: model.preset[name] for name in names}, model.name, overrides)
    system = build_system(preset)
    if tuple(system.parameters) != tuple(model.parameters):
        raise MelotteValueError(
            f"{' '.join(overrides)}: this changes the parameters or their ranges, which a trained "
            "model keeps"
        )
    kept = model.preset | {"data": preset.data}
    return replace(model, system=system, preset=kept)


def torch_device(name: str) -> str:
    """Resolve ``"auto"``, and refuse a device that torch does not have.

    Raises
    ------
    MelotteValueError
    """
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.zeros(1, device=name)
    except (RuntimeError, AssertionError) as error:
        raise MelotteValueError(
            f"device {name!r} is not available here; allowed: auto, cpu, cuda, cuda:N"
        ) from error
    return name
