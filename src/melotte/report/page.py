"""One self-contained HTML page: text, tables and figures, nothing to fetch."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from melotte.engine.json_values import plain_json
from melotte.errors import MelotteFileError

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class PageTable:
    """A table: header and rows of text."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class PageFigure:
    """A figure with its caption; ``alt`` says in words what it shows."""

    figure: Figure
    caption: str
    alt: str

    @property
    def png(self) -> str:
        """The figure as base64 PNG."""
        from melotte.report.style import png_bytes

        return base64.b64encode(png_bytes(self.figure)).decode("ascii")


@dataclass(frozen=True)
class PageImage:
    """A figure that lies in a PNG file, with its caption; ``alt`` says what it shows."""

    path: Path
    caption: str
    alt: str

    @property
    def png(self) -> str:
        """The file as base64.

        Raises
        ------
        MelotteFileError
            When it cannot be read.
        """
        try:
            return base64.b64encode(self.path.read_bytes()).decode("ascii")
        except OSError as error:
            raise MelotteFileError(f"{self.path}: the figure cannot be read") from error


@dataclass(frozen=True)
class Section:
    """A heading with paragraphs, a table and figures."""

    title: str
    text: Sequence[str] = ()
    table: PageTable | None = None
    figures: Sequence[PageFigure | PageImage] = field(default_factory=tuple)


def write_page(
    path: Path,
    title: str,
    lead: str,
    sections: Sequence[Section],
    provenance: Mapping[str, Any],
) -> Path:
    """Write the page.

    Parameters
    ----------
    path : Path
        ``.html``; its folder must exist.
    title, lead : str
    sections : sequence of Section
    provenance : mapping
        Shown at the end, in order.

    Returns
    -------
    Path

    Raises
    ------
    MelotteFileError
        When the file cannot be written.
    """
    from jinja2 import Environment

    from melotte.engine.atomic_files import write_atomically

    template = (files("melotte.report") / "page.html").read_text(encoding="utf-8")
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    text = environment.from_string(template).render(
        title=title,
        lead=lead,
        sections=sections,
        provenance=[(name, _readable(value)) for name, value in provenance.items()],
    )
    write_atomically(path, text.encode())
    return path


def _readable(value: Any) -> Any:
    """A value of the provenance; nested ones as YAML, for people."""
    import yaml

    if not isinstance(value, Mapping | list | tuple):
        return "none" if value is None else value
    if not value:
        return "none"
    plain = plain_json(value, "provenance", nulls=True)
    return yaml.safe_dump(
        plain, sort_keys=False, allow_unicode=True, width=100, default_flow_style=None
    )


def write_result_report(result: Path, output: Path) -> Path:
    """Turn a table that ``infer`` wrote into a page.

    Parameters
    ----------
    result : Path
        ``.ecsv``, ``.fits``, ``.parquet`` or ``.vot``.
    output : Path

    Returns
    -------
    Path

    Raises
    ------
    MelotteFileError
        When the table is no result table.
    MelotteValueError
        When the page would overwrite it or a figure that it shows.
    """
    from melotte.engine.atomic_files import check_outputs
    from melotte.report.result_page import result_sections

    check_outputs({"-o": output}, [result])
    sections, provenance = result_sections(result)
    shown = (figure for section in sections for figure in section.figures)
    check_outputs({"-o": output}, [one.path for one in shown if isinstance(one, PageImage)])
    return write_page(
        output, f"Results in {result.name}", "Measured with melotte.", sections, provenance
    )
