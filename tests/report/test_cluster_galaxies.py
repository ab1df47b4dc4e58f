"""What infer says of galaxies: members, where they end, tables, figures and the report."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from astropy.table import Table
from galaxy_models import EDGE, FALL, one_cluster, planted_model, small_model
from test_figures import everything_inside

from melotte import api
from melotte.baselines.m_sigma import PUBLISHED
from melotte.cli import main
from melotte.engine.model_files import save_model
from melotte.engine.result_tables import read_result_table
from melotte.errors import MelotteValueError
from melotte.io.literature_tables import read_literature
from melotte.io.tables import read_table
from melotte.parameters import Parameter
from melotte.report import cluster_galaxies
from melotte.report.classical_masses import classical_masses
from melotte.report.cluster_galaxies import (
    galaxy_lists,
    require_memberships,
    with_memberships,
    with_n_members,
)
from melotte.report.galaxy_cluster_diagrams import phase_space_figure
from melotte.report.literature import literature_values
from melotte.report.mass_diagrams import mass_figure, smooth_density
from melotte.report.membership_boundary import membership_boundary, probe_memberships
from melotte.report.result_page import result_sections
from melotte.systems.galaxy_cluster import reading
from melotte.systems.galaxy_cluster.membership import member_probabilities

MASS = Parameter("log_m200c", 13.5, 15.5)


def run(*words: object) -> int:
    with pytest.raises(SystemExit) as caught:
        main([str(word) for word in words])
    return int(caught.value.code or 0)


@pytest.fixture(scope="module")
def planted():
    return planted_model()


@pytest.fixture(scope="module")
def model_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "small.safetensors"
    save_model(path, small_model()[0])
    return path


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """Two clusters on the sky; every second row is far off and not read."""
    rng = np.random.default_rng(3)
    rows = {"galaxy_id": [], "cluster_id": [], "RA": [], "DEC": [], "Z": []}
    for name, n, ra in (("A1", 40, 30.0), ("A2", 25, 80.0)):
        for k in range(2 * n):
            far = 5.0 if k % 2 else 0.0
            rows["galaxy_id"].append(f"{name}-{k}")
            rows["cluster_id"].append(name)
            rows["RA"].append(ra + 0.08 * rng.normal() + far)
            rows["DEC"].append(0.08 * rng.normal())
            rows["Z"].append(0.1 + 0.0025 * rng.normal())
    folder = tmp_path_factory.mktemp("galaxies")
    Table(rows).write(folder / "galaxies.csv")
    centres = {"cluster_id": ["A1", "A2"], "RA": [30.0, 80.0], "DEC": [0.0, 0.0], "Z": [0.1, 0.1]}
    Table(centres).write(folder / "clusters.csv")
    return folder / "galaxies.csv", folder / "clusters.csv"


def test_the_boundary_is_where_membership_was_planted(planted):
    model, mocks = planted
    for n in (15, 120):
        found = membership_boundary(model, one_cluster(mocks, n))
        np.testing.assert_allclose(found.speed, EDGE - FALL * found.radius, atol=5)
        np.testing.assert_allclose(found.at([0.5, 1.0]), [EDGE - 0.5 * FALL, EDGE - FALL], atol=6)


@pytest.mark.parametrize(("shift", "expected"), [(1e6, 2500.0), (-1e6, 0.0)])
def test_without_a_crossing_the_boundary_is_the_cut_or_nothing(planted, shift, expected):
    model, mocks = planted
    network = model.network
    hook = network.register_forward_hook(lambda _, __, out: out | {"member": out["member"] + shift})
    try:
        found = membership_boundary(model, one_cluster(mocks))
    finally:
        hook.remove()
    np.testing.assert_allclose(found.speed, expected)


def test_a_probe_is_asked_of_the_whole_cluster_and_alone():
    model, mocks = small_model()
    observation = one_cluster(mocks)
    galaxies = observation.data["galaxies"].values
    # A probe has the cluster's median stellar mass: here all have none.
    galaxies[:, 2], galaxies[:, 3] = 1.0, torch.nan
    places = torch.tensor([[100.0, 0.3], [-2000.0, 1.2]])
    together = probe_memberships(model, observation, places)
    each = torch.cat([probe_memberships(model, observation, one[None]) for one in places])
    torch.testing.assert_close(together, each, rtol=1e-4, atol=1e-5)
    # A probe where a galaxy lies is as much of a member as that one, in a list of one more.
    i = int(galaxies[:, 1].argmin())
    again = probe_memberships(model, observation, galaxies[i : i + 1, :2])
    assert float(again[0]) == pytest.approx(
        float(member_probabilities(model, observation)[i]), abs=0.02
    )


def test_members_are_summed_by_row_and_failed_rows_are_empty(planted):
    model, mocks = planted
    observation = one_cluster(mocks)
    result = api.infer_observations(model, [observation], samples=50, progress=False)
    (cluster,) = with_memberships(model, list(galaxy_lists(result, [observation])))
    limit = EDGE - FALL * cluster.radius
    inside = np.abs(cluster.velocity) < limit
    assert ((cluster.membership > 0.5) == inside).all()
    found = with_n_members(result, [cluster]).columns["n_members"]
    assert found.values[0] == pytest.approx(cluster.membership.sum())
    assert "1.3 R200c" in found.description
    assert np.isnan(with_n_members(result, []).columns["n_members"].values).all()


def test_models_without_memberships_are_refused():
    model, mocks = small_model("model.membership_weight=0")
    with pytest.raises(MelotteValueError, match="--galaxies needs memberships"):
        require_memberships(model, "--galaxies")
    observation = one_cluster(mocks)
    result = api.infer_observations(model, [observation], samples=50, progress=False)
    (cluster,) = with_memberships(model, list(galaxy_lists(result, [observation])))
    assert cluster.membership is None
    assert everything_inside(phase_space_figure(cluster))


@pytest.mark.parametrize("suffix", ["ecsv", "fits", "parquet", "vot"])
def test_table_of_galaxies_from_the_command_line(model_file, table, tmp_path, suffix, capsys):
    source, centres = table
    output, galaxies = tmp_path / f"masses.{suffix}", tmp_path / f"galaxies.{suffix}"
    literature = tmp_path / "literature.csv"
    literature.write_text("id,log_m200c,log_m200c_error,reference\na 1,14.8,0.2,Someone 2001\n")
    code = run(
        *("infer", model_file, source, "--clusters", centres, "-o", output),
        *("--galaxies", galaxies, "--compare", literature, "--figures", tmp_path / "figures"),
    )
    assert code == 0
    assert "table of galaxies" in capsys.readouterr().out
    found = read_table(galaxies)
    names = [str(one) for one in found.text("galaxy")]
    ids = [str(one) for one in found.text("id")]
    assert len(names) > 40
    assert all(name.startswith(own) for name, own in zip(names, ids, strict=True))
    # Only the rows near a cluster are in, in the order of the file, each with its own redshift.
    number = np.array([int(name.split("-")[1]) for name in names])
    assert (number % 2 == 0).all()
    given = Table.read(source)
    known = dict(zip(given["galaxy_id"], given["Z"], strict=True))
    result = read_result_table(output)
    centre = dict(zip(result["id"], np.asarray(result["redshift"]), strict=True))
    expected = [
        299792.458 * (known[n] - centre[i]) / (1 + centre[i])
        for n, i in zip(names, ids, strict=True)
    ]
    np.testing.assert_allclose(found.numbers("velocity"), expected, atol=1)
    h = 0.6777
    z = np.array([centre[i] for i in ids])
    ratio = found.numbers("radius_mpc_h") / found.numbers("radius")
    np.testing.assert_allclose(ratio, h * (1 + z), rtol=1e-5)
    assert found.units["velocity"].replace(" ", "") in ("km/s", "kms-1", "km.s-1", "kms**-1")
    chance = found.numbers("member_probability")
    for row, name in enumerate(result["id"]):
        total = chance[np.array(ids) == name].sum()
        assert float(result["n_members"][row]) == pytest.approx(total, rel=1e-5)
    titles = [one.title for one in result_sections(output)[0]]
    assert {"Masses", "Members", "Phase space"} <= set(titles)
    masses = next(one for one in result_sections(output)[0] if one.title == "Masses")
    drawn = masses.figures[0].figure.axes[0]
    assert {"galaxy-cluster", "literature", "M–σ, Ho+19"} == set(
        drawn.get_legend_handles_labels()[1]
    )
    for name in ("A1", "A2"):
        for kind in ("diagram", "mass"):
            assert (tmp_path / "figures" / f"{name}_{kind}.png").stat().st_size > 2000


def test_galaxies_are_read_and_judged_once(model_file, table, tmp_path, monkeypatch):
    calls = {"read": 0, "judged": 0}

    def counted(name, function):
        def call(*given, **named):
            calls[name] += 1
            return function(*given, **named)

        return call

    monkeypatch.setattr(reading, "read_galaxies", counted("read", reading.read_galaxies))
    judge = counted("judged", cluster_galaxies.member_probabilities)
    monkeypatch.setattr(cluster_galaxies, "member_probabilities", judge)
    source, centres = table
    code = run(
        *("infer", model_file, source, "--clusters", centres, "-o", tmp_path / "masses.ecsv"),
        *("--galaxies", tmp_path / "galaxies.ecsv", "--figures", tmp_path / "figures"),
    )
    assert code == 0
    assert calls == {"read": 1, "judged": 2}
    assert len(list((tmp_path / "figures").glob("*_diagram.png"))) == 2


def test_open_clusters_have_no_galaxies(table, tmp_path, capsys):
    if "open-cluster" not in api.shipped_models():
        pytest.skip("the open-cluster model is not shipped")
    output = tmp_path / "o.ecsv"
    code = run("infer", "open-cluster", table[0], "-o", output, "--galaxies", tmp_path / "g.ecsv")
    assert code == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "--galaxies is for galaxy clusters; this model measures open-cluster" in error
    assert not output.exists()


def test_classical_masses_invert_the_published_relations(planted):
    model, mocks = planted
    observation = one_cluster(mocks, 150)
    result = api.infer_observations(model, [observation], samples=50, progress=False)
    (cluster,) = galaxy_lists(result, [observation])
    found = {one.method: one for one in classical_masses(cluster)}
    relation = PUBLISHED["contaminated"]
    every = found["M–σ Ho+19, all galaxies"]
    log_sigma = relation.log_sigma15 + relation.slope * (every.log_mass - 15)
    assert 10**log_sigma == pytest.approx(cluster.velocity.std(), rel=1e-6)
    assert every.error == pytest.approx(0.10379335 / 0.24116582)
    # The relation of all galaxies holds for its own cylinder alone.
    wider = [one.method for one in classical_masses(replace(cluster, aperture=2.3))]
    assert wider == ["M–σ Ho+19, biweight after Clean", "M–σ Ho+19, gapper after Clean"]


def test_the_posterior_density_is_whole_at_the_ends_of_the_prior():
    rng = np.random.default_rng(4)
    at = np.linspace(13.5, 15.5, 501)
    for centre in (13.5, 14.5, 15.45):
        samples = centre + 0.1 * rng.normal(size=4000)
        samples = samples[(samples > 13.5) & (samples < 15.5)]
        density = smooth_density(samples, at, 13.5, 15.5)
        assert np.trapezoid(density, at) == pytest.approx(1, abs=0.01)


def test_mass_figure_draws_every_value(tmp_path):
    path = tmp_path / "others.csv"
    path.write_text(
        "Name,log_m200c,log_m200c_error_lower,log_m200c_error_upper,ref\n"
        "Coma,14.9,0.1,0.2,First 2001\nCOMA,15.9,,,Second 2002\nVirgo,14.3,0.1,0.1,First 2001\n"
        "Fornax,,0.1,0.1,First 2001\n"
    )
    table = read_literature(path)
    known = literature_values(table, "log_m200c")
    assert set(known) == {"coma", "virgo"}
    first, second = known["coma"]
    assert (first.lower, first.upper, first.reference) == (0.1, 0.2, "First 2001")
    assert np.isnan(second.lower)
    samples = np.random.default_rng(5).normal(14.9, 0.1, 500)
    figure = mass_figure("Coma", samples, MASS, literature=known["coma"])
    assert everything_inside(figure)
    below = figure.axes[1]
    names = [text.get_text() for text in below.get_yticklabels()]
    assert names == ["melotte", "First 2001", "Second 2002"]
    assert below.get_xlim()[1] > 15.9
    assert literature_values(table, "log_age") == {}


def test_the_real_coma_cluster_is_drawn(shared_data, planted):
    model, _ = planted
    path = shared_data / "galaxycluster" / "rcausticmass_coma_sample.txt"
    observations = list(model.system.read([path], {}))
    result = api.infer_observations(model, observations, samples=100, progress=False)
    (cluster,) = with_memberships(model, list(galaxy_lists(result, observations)))
    figure = phase_space_figure(cluster)
    assert everything_inside(figure)
    assert "comoving" in figure.axes[0].get_xlabel()
    assert len(figure.axes[0].collections[0].get_offsets()) == len(cluster.velocity)
    upper = figure.axes[0].lines[-1]
    radius, speed = np.asarray(upper.get_xdata()), np.asarray(upper.get_ydata())
    inner = (radius > 0.1) & (radius < 1.5)
    np.testing.assert_allclose(speed[inner], EDGE - FALL * radius[inner], atol=10)
