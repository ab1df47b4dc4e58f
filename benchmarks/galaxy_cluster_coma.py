"""The real Coma cluster, weighed by the shipped models, classical estimates and the literature.

Galaxies are the uncleaned SDSS sample that ships with RCausticMass, within each of the three
cylinders of Ho et al. 2019. Lengths are comoving and masses in Msun/h, with the h of the models;
the sample's projected distances are Mpc and its velocities c (z - z_c)/(1 + z_c) for z_c = 0.0235.

    python benchmarks/galaxy_cluster_coma.py --data DIR [--models galaxy-cluster,...] [--json out]

DIR holds ``galaxycluster/rcausticmass_coma_sample.txt``. To draw it:

    melotte infer galaxy-cluster DIR/galaxycluster/rcausticmass_coma_sample.txt -o coma.ecsv
        --compare benchmarks/coma_literature.csv --figures coma --galaxies galaxies.ecsv
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch

import melotte
from melotte.baselines.m_sigma import PUBLISHED, MSigma
from melotte.baselines.velocity_dispersion import velocity_dispersions
from melotte.engine.json_values import plain_json
from melotte.errors import MelotteError
from melotte.flags import decode_flags
from melotte.ragged import Ragged
from melotte.report.literature import literature_values
from melotte.systems.base import Observation
from melotte.systems.galaxy_cluster.settings import APERTURES

SAMPLE = Path("galaxycluster", "rcausticmass_coma_sample.txt")
LITERATURE = Path(__file__).with_name("coma_literature.csv")
LOG_LIMIT = 9.15
"""log10(Msun) of a red galaxy of r = 17.77, the depth of the SDSS spectra, at Coma's distance."""
PRIORS = (None, "mass-function")


def posterior_row(model: Any, path: Path, options: dict[str, Any], prior: str | None) -> dict:
    """Quantiles of log10(M200c/(Msun/h)), number of galaxies and flags."""
    result = melotte.infer(model, path, options=options, prior=prior, progress=False)
    low, middle, high = result.quantiles[0, :, 0]
    return {
        "model": model.name,
        "prior": prior or "flat",
        "log_m200c": float(middle),
        "minus": float(middle - low),
        "plus": float(high - middle),
        "flags": decode_flags(int(result.flags[0])),
    }


def classical_rows(galaxies: Ragged, redshift: float) -> list[dict[str, Any]]:
    """Dispersions and masses of the power laws as published."""
    velocity = galaxies.values[:, 0].double().numpy()
    radius = galaxies.values[:, 1].double().numpy()
    offsets = galaxies.offsets.numpy()
    rows: list[dict[str, Any]] = []
    for title, method in {
        "all galaxies": MSigma(relation=PUBLISHED["contaminated"]),
        "after 3 sigma": MSigma("biweight", "three_sigma", relation=PUBLISHED["pure"]),
        "after gapper": MSigma("biweight", "shifting_gapper", relation=PUBLISHED["pure"]),
        "after Clean": MSigma("biweight", "clean", relation=PUBLISHED["pure"]),
    }.items():
        mass = method.predict(velocity, radius, offsets, redshift)[0]
        rows.append({"method": title, "log_m200c": float(mass)})
    rows[0]["dispersion"] = float(velocity_dispersions(velocity, offsets, "standard")[0])
    return rows


def main() -> None:
    """Weigh Coma in each cylinder."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with the sample")
    parser.add_argument("--models", default="galaxy-cluster,galaxy-cluster-richness")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    path = arguments.data / SAMPLE
    document: dict[str, Any] = {}
    try:
        models = [melotte.load(name, device="cpu") for name in arguments.models.split(",")]
        for name, (aperture, cut) in APERTURES.items():
            options = {
                "aperture": aperture,
                "velocity_cut": cut,
                "log_stellar_mass_limit": LOG_LIMIT,
            }
            seen = next(iter(models[0].system.read([path], options)))
            if not isinstance(seen, Observation):
                parser.error(f"{path}: {seen.reason}")
            galaxies = seen.data["galaxies"]
            assert isinstance(galaxies, Ragged)
            print(
                f"\n{name} cylinder: R < {aperture} comoving Mpc/h, |v| < {cut:g} km/s, "
                f"{len(galaxies.values)} galaxies"
            )
            rows = [
                posterior_row(model, path, options, prior) for model in models for prior in PRIORS
            ]
            for row in rows:
                print(
                    f"  {row['model']:26s} prior {row['prior']:14s} {row['log_m200c']:.2f} "
                    f"+{row['plus']:.2f} -{row['minus']:.2f}  {' '.join(row['flags'])}"
                )
            classical = classical_rows(galaxies, float(torch.as_tensor(seen.data["redshift"])[0]))
            print(
                f"  velocity dispersion {classical[0]['dispersion']:.0f} km/s; M-sigma as published"
            )
            for row in classical:
                print(f"  {row['method']:46s} {row['log_m200c']:.2f}")
            document[name] = {"posteriors": rows, "classical": classical}
    except MelotteError as error:
        parser.error(str(error))
    print("\nliterature, log10(M200c/(Msun/h))")
    for one in literature_values(LITERATURE, "log_m200c")["1"]:
        print(f"  {one.reference:46s} {one.value:.2f} +{one.upper:.2f} -{one.lower:.2f}")
    if arguments.json:
        arguments.json.write_text(json.dumps(plain_json(document, "coma", nulls=True), indent=1))


if __name__ == "__main__":
    main()
