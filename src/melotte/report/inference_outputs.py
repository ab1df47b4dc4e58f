"""Files that the ``infer`` command writes: none may take the place of one that it reads."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from melotte.engine.atomic_files import check_outputs

if TYPE_CHECKING:
    from melotte.engine.model_files import Model
    from melotte.report.inference import InferenceRequest


def check_output_files(request: InferenceRequest) -> None:
    """Refuse outputs that would overwrite one another, or an input that the command names.

    Raises
    ------
    MelotteValueError
    """
    named = [value for value in request.options.values() if isinstance(value, str)]
    tables = (request.positions, request.clusters, request.prior, request.compare)
    check_outputs(_outputs(request), [request.model, *request.inputs, *tables, *named])


def check_named_files(model: Model, request: InferenceRequest) -> None:
    """Refuse outputs that would overwrite a file that an input names, such as a table of images.

    Raises
    ------
    MelotteValueError
    """
    named = getattr(model.system, "named_files", None)
    if named is not None:
        check_outputs(_outputs(request), named(request.inputs))


def _outputs(request: InferenceRequest) -> dict[str, Path | None]:
    """By the option that names each; None where it was not given."""
    outputs = {"-o": request.output, "--samples-file": request.samples_file, "--maps": request.maps}
    return outputs | {"--stars": request.stars, "--galaxies": request.galaxies}
