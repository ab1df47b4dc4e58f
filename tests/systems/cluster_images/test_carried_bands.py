"""Going on from a model of other bands: weights and scales go with the bands they belong to."""

import pytest
import torch

from melotte import api
from melotte.engine.mocks import mock_batch
from melotte.engine.random import Stream
from melotte.engine.starting_weights import starting_constants, take_weights
from melotte.errors import MelotteValueError
from melotte.systems.cluster_images.carried_bands import NEW, band_places
from melotte.systems.cluster_images.network import ClusterImageNetwork
from melotte.systems.registry import build_system, load_preset

SMALL = ("data.fields.tiles=2", "data.fields.held_out_tiles=2", "data.fields.size=160")


@pytest.fixture(scope="module")
def three():
    return api.load("m83", device="cpu")


@pytest.fixture(scope="module")
def five(three):
    """System, mocks, constants and network of five bands, begun from three."""
    system = build_system(load_preset("m83-five-bands", SMALL))
    batch = mock_batch(system, 64, 1, Stream.CONSTANTS, 0)
    constants = starting_constants(system, three, (), lambda: system.constants(batch))
    network = system.network(constants).eval()
    take_weights(network, three)
    return system, batch, constants, network


def test_bands_are_found_by_name_and_a_replaced_one_by_place():
    assert band_places(["a", "b", "c"], ["c", "a"]) == [1, NEW, 0]
    assert band_places(["c", "a"], ["a", "b", "c"]) == [2, 0]
    assert band_places(["a", "d", "c"], ["a", "b", "c"]) == [0, 1, 2]
    assert band_places(["c", "b", "a"], ["a", "b", "c"]) == [2, 1, 0]


def test_scales_are_the_models_and_those_of_new_bands_measured(three, five):
    system, batch, constants, _ = five
    own = system.constants(batch)
    shared = [system.data.bands.index(band) for band in three.system.data.bands]
    assert [constants["scale"][i] for i in shared] == three.constants["scale"]
    assert [constants["scale"][i] for i in (0, 3)] == [own["scale"][i] for i in (0, 3)]
    # Exposures of the bands are the third block of the context, the camera its end.
    assert constants["context_mean"][10 + shared[1]] == three.constants["context_mean"][7]
    assert constants["context_std"][-3:] == three.constants["context_std"][-3:]
    n_annuli = len(system.model.apertures)
    first = shared[2] * n_annuli
    assert (
        constants["photometry_mean"][first : first + n_annuli]
        == three.constants["photometry_mean"][2 * n_annuli :]
    )


def test_more_bands_say_at_first_what_fewer_did(three, five):
    system, batch, constants, network = five
    inputs = system.prepare(batch.observation, constants)
    shared = [system.data.bands.index(band) for band in three.system.data.bands]
    data = dict(batch.observation.data)
    for name in ("image", "exposure", "fwhm"):
        data[name] = data[name][:, shared]
    fewer = three.system.prepare(type(batch.observation)(data), three.constants)
    theirs = three.network.eval()
    with torch.no_grad():
        torch.testing.assert_close(
            network.encoder.stem(inputs["image"]), theirs.encoder.stem(fewer["image"])
        )
        ours, before = network(inputs), theirs(fewer)
    level = torch.tensor([0.5])
    change = (ours["posterior"].quantile(level) - before["posterior"].quantile(level)).abs()
    # The normalisation before the features sees the new bands' numbers: no more than that.
    assert change.median() < 0.01
    spread = before["posterior"].quantile(level)[:, 0].std(0)
    assert (change[:, 0].quantile(0.9, 0) < 0.2 * spread).all()


def test_bands_in_another_order_change_nothing(three):
    bands = three.system.data.bands
    network = ClusterImageNetwork(three.system.model, bands[::-1], 4).eval()
    network.adopt(three.network)
    image, n_bands = torch.randn(4, 3, 32, 32), len(bands)
    context, photometry = torch.randn(4, 18), torch.randn(4, n_bands * network.n_annuli)
    blocks = context[:, :15].reshape(4, 5, n_bands)
    turned = {
        "image": image.flip(1),
        "context": torch.cat([blocks.flip(2).flatten(1), context[:, 15:]], 1),
        "photometry": photometry.reshape(4, n_bands, -1).flip(1).flatten(1),
    }
    given = {"image": image, "context": context, "photometry": photometry}
    with torch.no_grad():
        ours, theirs = network(turned), three.network.eval()(given)
    torch.testing.assert_close(ours["embedding"], theirs["embedding"], rtol=1e-4, atol=1e-5)


def test_what_differs_otherwise_is_refused(three):
    settings = three.system.model.model_copy(update={"apertures": (2.0, 5.0)})
    network = ClusterImageNetwork(settings, ["WFC3_UVIS_F336W"], 4)
    with pytest.raises(MelotteValueError, match="the weights of m83 do not fit"):
        take_weights(network, three)
