"""The picture of simulated fields in the documentation: M31 and M83, sparse to crowded.

python examples/make_galaxy_fields.py [docs/images/galaxy-fields.png]
"""

from __future__ import annotations

import sys

import matplotlib as mpl
import matplotlib.pyplot as plt
import torch
from PIL import Image
from torch import Tensor

from melotte.sky.galaxy_fields import draw_environment
from melotte.telescope.fields import simulate_field
from melotte.telescope.setups import M31_PHAT, M83_MOSAIC

FIELDS = (
    ("m31", M31_PHAT, (19.0, 15.0, 10.8, 4.5)),
    ("m83", M83_MOSAIC, (8.3, 5.5, 3.0, 0.6)),
)
SIZE = 300
SEED = 11


def colour_picture(image: Tensor) -> Tensor:
    """Red, green and blue from the bands in order of wavelength, each stretched by arcsinh.

    Parameters
    ----------
    image : Tensor, shape (3, n_rows, n_columns), bluest band first

    Returns
    -------
    Tensor, shape (n_rows, n_columns, 3), in [0, 1]
    """
    bands = image.flip(0)
    flat = bands.flatten(1)
    low, middle, high = flat.quantile(torch.tensor([0.1, 0.5, 0.985]), dim=1)[:, :, None, None]
    dark = 0.5 * (low + middle)
    # Where a band is noise alone, a stretch to its brightest pixels would paint the noise.
    bright = torch.maximum(high - dark, 6 * (middle - low))
    stretched = torch.asinh(5 * (bands - dark) / bright) / torch.asinh(torch.tensor(10.0))
    return stretched.clamp(0, 1).permute(1, 2, 0)


def main(path: str) -> None:
    """Simulate the fields and draw them."""
    mpl.use("Agg")
    torch.set_num_threads(1)
    figure, axes = plt.subplots(2, 4, figsize=(13, 6.9), layout="constrained")
    for row, (galaxy, setup, radii) in zip(axes, FIELDS, strict=True):
        for axis, radius in zip(row, radii, strict=True):
            generator = torch.Generator().manual_seed(SEED)
            environment = draw_environment(galaxy, generator, radius)
            field = simulate_field(environment, setup, SIZE, generator)
            axis.imshow(colour_picture(field.image), origin="lower", interpolation="nearest")
            axis.set_title(
                f"{galaxy.upper()}, {radius:g} kpc, {environment.stellar_density:.0f} "
                r"M$_\odot$/pc$^2$",
                fontsize=10,
            )
            length = 5 / setup.pixel_scale
            axis.plot([12, 12 + length], [12, 12], color="white", linewidth=2)
            axis.text(12, 18, '5"', color="white", fontsize=9)
            axis.axis("off")
    figure.savefig(path, dpi=85)
    # A palette loses nothing that the eye sees, and two thirds of the file.
    with Image.open(path) as picture:
        small = picture.convert("RGB").quantize(160)
    small.save(path, optimize=True)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "docs/images/galaxy-fields.png")
