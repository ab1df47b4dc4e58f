"""Absolute magnitudes of stars behind dust, from bolometric corrections."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

from melotte.errors import MelotteValueError
from melotte.sky.stars import Stars

SOLAR_BOLOMETRIC_MAGNITUDE = 4.74

REDUCE_FROM = 600
"""Stars per cluster from which interpolating the table to its [Fe/H] first is cheaper."""

_INSTRUMENTS = {
    "WFC3_UVIS": ("F275W", "F336W", "F438W", "F475W", "F555W", "F606W", "F814W"),
    "WFC3_IR": ("F110W", "F160W"),
    "ACS_WFC": ("F435W", "F475W", "F555W", "F606W", "F814W"),
}
SHIPPED_BANDS = (
    *(f"{camera}_{band}" for camera, bands in _INSTRUMENTS.items() for band in bands),
    *(f"Bessell_{band}" for band in "UBVRI"),
    *(f"2MASS_{band}" for band in ("J", "H", "Ks")),
    *(f"Gaia_{band}_EDR3" for band in ("G", "BP", "RP")),
    *(f"Gaia_{band}_DR2" for band in ("G", "BP", "RP")),
    *(f"PS_{band}" for band in "grizy"),
)
"""Bands of the shipped table; Vega magnitudes, but AB for Pan-STARRS (``PS_``)."""

BAND_ALIASES = {
    **{band: f"Bessell_{band}" for band in "UBVRI"},
    **{band: f"2MASS_{band}" for band in ("J", "H", "Ks")},
    **{band: f"WFC3_UVIS_{band}" for band in ("F275W", "F336W", "F438W")},
    **{band: f"WFC3_IR_{band}" for band in ("F110W", "F160W")},
    "F435W": "ACS_WFC_F435W",
    **{f"Gaia_{band}_DR2Rev": f"Gaia_{band}_DR2" for band in ("G", "BP", "RP")},
}
"""Shorter and other names; a filter that two cameras carry has none."""


def band_name(name: str, available: Sequence[str] = SHIPPED_BANDS) -> str:
    """Full name of a band.

    Parameters
    ----------
    name : str
        A full name or an alias.
    available : sequence of str
        Full names to choose from.

    Raises
    ------
    MelotteValueError
        When there is no such band, or several could be meant.
    """
    if name in available:
        return name
    full = BAND_ALIASES.get(name, name)
    if full in available:
        return full
    meant = [one for one in available if one.endswith(f"_{name}")]
    if len(meant) > 1:
        raise MelotteValueError(f"band {name!r} is ambiguous: say {' or '.join(meant)}")
    raise MelotteValueError(f"no band {name!r}; there are {', '.join(available)}")


class BolometricCorrections:
    """Bolometric corrections over [Fe/H], Teff and log g, each a cubic in A_V.

    Parameters
    ----------
    log_teff : Tensor, shape (n_teff,), log10(Teff / K), rises
    log_g : (first, step, number), evenly spaced
    metallicity : (first, step, number), evenly spaced, the corrections' own [Fe/H]
    metallicity_offset : float
        The corrections' [Fe/H] minus that of the isochrones.
    largest_extinction : float, mag
        A_V up to which the cubic was fitted; beyond, extinction grows linearly.
    bands : sequence of str
        Full names.
    load : callable
        Gives the coefficients of a band by its full name, shape
        (4, n_metallicity, n_teff, n_log_g); called once a band, when first needed.
    device : torch.device
    """

    def __init__(
        self,
        log_teff: Tensor,
        log_g: tuple[float, float, int],
        metallicity: tuple[float, float, int],
        metallicity_offset: float,
        largest_extinction: float,
        bands: Sequence[str],
        load: Callable[[str], Tensor],
        device: torch.device | str = "cpu",
    ) -> None:
        self.device = torch.device(device)
        self.bands = tuple(bands)
        self._log_teff = log_teff.to(self.device)
        self._log_g = log_g
        self._metallicity = metallicity
        self._offset = metallicity_offset
        self._largest_extinction = largest_extinction
        self._load = load
        self._stacks: dict[tuple[str, ...], Tensor] = {}

    def to(self, device: torch.device | str) -> BolometricCorrections:
        """The same corrections on another device; bands move when they are needed."""
        return BolometricCorrections(
            self._log_teff,
            self._log_g,
            self._metallicity,
            self._offset,
            self._largest_extinction,
            self.bands,
            self._load,
            device,
        )

    def restricted(self, bands: Sequence[str]) -> BolometricCorrections:
        """The same corrections in some of the bands, given by name or alias, loaded at once."""
        names = tuple(dict.fromkeys(band_name(band, self.bands) for band in bands))
        chosen = self.to(self.device)
        chosen.bands = names
        chosen._stack(names)
        return chosen

    def magnitudes(
        self,
        stars: Stars,
        extinction_v: Tensor | float,
        bands: Sequence[str],
        metallicity: Tensor | float,
    ) -> Tensor:
        """Absolute magnitudes.

        Parameters
        ----------
        stars : Stars, shape (..., n_stars)
        extinction_v : Tensor, shape (..., 1) or (..., n_stars), mag
        bands : sequence of str
        metallicity : Tensor, shape (..., 1) or (..., n_stars), the isochrones' [Fe/H]

        Returns
        -------
        Tensor, shape (..., n_stars, n_bands), mag; +inf for dead stars
        """
        correction = self.corrections(stars.log_teff, stars.log_g, metallicity, extinction_v, bands)
        bolometric = SOLAR_BOLOMETRIC_MAGNITUDE - 2.5 * stars.log_luminosity
        return bolometric[..., None] - correction

    def corrections(
        self,
        log_teff: Tensor,
        log_g: Tensor,
        metallicity: Tensor | float,
        extinction_v: Tensor | float,
        bands: Sequence[str],
    ) -> Tensor:
        """Bolometric corrections minus extinction, mag, shape (..., n_stars, n_bands).

        Trilinear in log Teff, log g and [Fe/H]; outside the table its edge holds. Parameters as
        in :meth:`magnitudes`.
        """
        dtype = log_teff.dtype
        shape = log_teff.shape
        n_stars = shape[-1] if shape else 1
        names = tuple(band_name(band, self.bands) for band in bands)
        stack = self._stack(names)
        n_nodes, width = stack.shape[1], stack.shape[2]
        powers = self._powers(torch.as_tensor(extinction_v, device=self.device).to(stack.dtype))
        metallicity = torch.as_tensor(metallicity, device=self.device).to(stack.dtype)

        nodes, weights = self._atmosphere_nodes(log_teff.to(stack.dtype), log_g.to(stack.dtype))
        below, part = _uniform_bracket(metallicity + self._offset, *self._metallicity)
        shared = metallicity.ndim == 0 or metallicity.shape[-1] == 1
        if shared and n_stars >= REDUCE_FROM:
            batch = shape[:-1]
            below = below.expand(*batch, 1).reshape(-1)
            part = part.expand(*batch, 1).reshape(-1)[:, None, None]
            table = torch.lerp(stack[below], stack[below + 1], part)
            same_dust = powers.ndim == 1 or powers.shape[-2] == 1
            if same_dust:
                cluster_powers = powers.expand(*batch, 1, 4).reshape(-1, 1, 4, 1)
                table = table.reshape(len(below), n_nodes * len(names), 4)
                table = torch.matmul(table, cluster_powers[:, 0]).reshape(-1, len(names))
            else:
                table = table.reshape(-1, width)
            cluster = torch.arange(len(below), device=self.device)[:, None, None]
            rows = (nodes.reshape(len(below), n_stars, 4) + n_nodes * cluster).reshape(-1, 4)
            found = embedding_bag(
                rows, table, mode="sum", per_sample_weights=weights.reshape(-1, 4)
            )
            if same_dust:
                return found.reshape(*shape, len(names)).to(dtype)
        else:
            # The eight nodes around each star: four atmospheres at two metallicities.
            below = below.expand(shape)[..., None]
            part = part.expand(shape)[..., None]
            rows = torch.cat([nodes + n_nodes * below, nodes + n_nodes * (below + 1)], -1)
            both = torch.cat([weights * (1 - part), weights * part], -1)
            found = embedding_bag(
                rows.reshape(-1, 8),
                stack.reshape(-1, width),
                mode="sum",
                per_sample_weights=both.reshape(-1, 8),
            )
        cubic = found.reshape(*shape, len(names), 4)
        return (cubic * powers[..., None, :]).sum(-1).to(dtype)

    def extinction(
        self,
        log_teff: Tensor,
        log_g: Tensor,
        metallicity: Tensor | float,
        extinction_v: Tensor | float,
        bands: Sequence[str],
    ) -> Tensor:
        """Extinction in bands, mag, shape (..., n_stars, n_bands); for A_band / A_V divide by A_V.

        Parameters as in :meth:`magnitudes`. Law: Cardelli, Clayton & Mathis 1989, R_V = 3.1.
        """
        dusty = self.corrections(log_teff, log_g, metallicity, extinction_v, bands)
        return self.corrections(log_teff, log_g, metallicity, 0.0, bands) - dusty

    def _atmosphere_nodes(self, log_teff: Tensor, log_g: Tensor) -> tuple[Tensor, Tensor]:
        """Four nodes (Teff, log g) around each star and their weights, shape (..., 4)."""
        axis = self._log_teff
        hot = torch.bucketize(log_teff, axis, right=True).clamp_(1, len(axis) - 1)
        low = axis[hot - 1]
        part_t = ((log_teff - low) / (axis[hot] - low)).clamp_(0, 1)
        below_g, part_g = _uniform_bracket(log_g, *self._log_g)
        n_g = self._log_g[2]
        node = (hot - 1) * n_g + below_g
        nodes = torch.stack([node, node + 1, node + n_g, node + n_g + 1], -1)
        cool_t, cool_g = 1 - part_t, 1 - part_g
        weights = torch.stack(
            [cool_t * cool_g, cool_t * part_g, part_t * cool_g, part_t * part_g], -1
        )
        return nodes, weights

    def _powers(self, extinction_v: Tensor) -> Tensor:
        """Factors (..., 4) of the cubic's coefficients, linear outside the fitted range."""
        inside = extinction_v.clamp(0.0, self._largest_extinction)
        excess = extinction_v - inside
        one = torch.ones_like(inside)
        return torch.stack(
            [
                one,
                inside + excess,
                inside * (inside + 2 * excess),
                inside**2 * (inside + 3 * excess),
            ],
            -1,
        )

    def _stack(self, names: tuple[str, ...]) -> Tensor:
        """Coefficients (n_metallicity, n_teff * n_log_g, n_bands * 4) of some bands."""
        if names not in self._stacks:
            bands = torch.stack([self._load(name).to(self.device) for name in names])
            stack = bands.permute(2, 3, 4, 0, 1)
            self._stacks[names] = stack.reshape(stack.shape[0], -1, 4 * len(names)).contiguous()
        return self._stacks[names]


def _uniform_bracket(value: Tensor, first: float, step: float, n: int) -> tuple[Tensor, Tensor]:
    """Index of the node below, at most n - 2, and the fraction on the way to the next."""
    place = ((value - first) / step).clamp(0.0, n - 1.0)
    below = place.floor().clamp(max=n - 2.0)
    return below.long(), place - below
