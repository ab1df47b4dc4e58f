from dataclasses import replace

import pytest
import torch
from small_images import SMALL

from melotte.errors import MelotteValueError
from melotte.flags import Flag
from melotte.networks.image_encoder import ImageEncoder, ring_means
from melotte.systems.base import Observation
from melotte.systems.cluster_images import preparation
from melotte.systems.cluster_images.network import VISIBILITY
from melotte.systems.registry import build_system, load_preset


def outputs_of(system, network, constants, observation):
    with torch.no_grad():
        return network(system.prepare(observation, constants))


def with_image(observation, image):
    return replace(observation, data=dict(observation.data) | {"image": image})


@pytest.fixture(scope="module")
def constants(small_m83, m83_mocks):
    return small_m83.constants(m83_mocks)


def test_inputs_are_finite_whatever_is_unknown(small_m83, m83_mocks, constants):
    image = m83_mocks.observation.data["image"].clone()
    image[0, 1] = torch.nan
    image[1, :, :20] = torch.nan
    image[2] = torch.nan
    prepared = small_m83.prepare(with_image(m83_mocks.observation, image), constants)
    for name, values in prepared.items():
        assert bool(torch.isfinite(values).all()), name
    assert float(prepared["image"][0, 1].abs().sum()) == 0


def test_a_constant_added_to_an_image_changes_the_context_alone(small_m83, m83_mocks, constants):
    image = m83_mocks.observation.data["image"]
    before = small_m83.prepare(m83_mocks.observation, constants)
    after = small_m83.prepare(with_image(m83_mocks.observation, image + 0.05), constants)
    assert torch.allclose(before["image"], after["image"], atol=2e-3)
    assert torch.allclose(before["photometry"], after["photometry"], atol=2e-2)
    assert not torch.allclose(before["context"], after["context"])


def test_counts_of_short_exposures_are_not_taken_for_bright(small_m83, m83_mocks, constants):
    system = build_system(load_preset("m83", (*SMALL, "model.counts_in_scale=true")))
    observation = m83_mocks.observation

    def inputs(of, seconds):
        exposure = torch.full_like(observation.data["exposure"], seconds)
        exposure[0, 1] = torch.nan
        data = dict(observation.data) | {"exposure": exposure}
        return of.prepare(replace(observation, data=data), constants)

    # One count a second is far above the scatter of the background, and so is one of two counts.
    plain, short, long = inputs(small_m83, 1.0), inputs(system, 1.0), inputs(system, 1e6)
    above = torch.sinh(plain["image"][1:]) * torch.tensor(constants["scale"])[:, None, None]
    assert torch.allclose(short["image"][1:], torch.asinh(above), atol=2e-3, rtol=1e-2)
    for name in plain:
        assert torch.allclose(long[name], inputs(small_m83, 1e6)[name], atol=1e-3)
    assert torch.equal(short["image"][0, 1], plain["image"][0, 1])


def test_photometry_is_standardised_over_the_mocks(small_m83, m83_mocks, constants):
    photometry = small_m83.prepare(m83_mocks.observation, constants)["photometry"]
    assert torch.allclose(photometry.mean(0), torch.zeros(photometry.shape[1]), atol=1e-3)
    assert torch.allclose(photometry.std(0), torch.ones(photometry.shape[1]), atol=1e-2)


def test_annuli_hold_all_the_light_of_their_disc():
    image = torch.rand(2, 3, 40, 40)
    fluxes, areas = preparation.annulus_fluxes(image, (2.0, 5.0, 9.0))
    y, x = torch.meshgrid(torch.arange(40) - 19.5, torch.arange(40) - 19.5, indexing="ij")
    weight = (9.5 - torch.hypot(y, x)).clamp(0, 1)
    assert torch.allclose(fluxes.sum(-1), (image * weight).sum((2, 3)), rtol=1e-4)
    assert float(areas.sum()) == pytest.approx(float(weight.sum()), rel=1e-5)
    assert float(weight.sum()) == pytest.approx(3.1416 * 81, rel=0.02)


def test_an_annulus_without_pixels_is_refused():
    with pytest.raises(MelotteValueError, match="holds no pixel"):
        preparation.annulus_fluxes(torch.rand(1, 1, 8, 8), (2.0, 30.0, 40.0))


def test_another_number_of_bands_is_refused(small_m83, m83_mocks, constants):
    two = {
        name: values[:, :2] if values.ndim > 1 else values
        for name, values in m83_mocks.observation.data.items()
    }
    with pytest.raises(MelotteValueError, match="found 2 bands"):
        small_m83.prepare(Observation(two), constants)


def test_ring_means_average_rings():
    state = torch.zeros(1, 1, 8, 8)
    state[..., 2:6, 2:6] = 1.0
    inner, outer = ring_means(state, 2)[0].tolist()
    assert inner == pytest.approx(1.0)
    assert outer == pytest.approx(4 / 52)
    assert ring_means(state, 1)[0].item() == pytest.approx(0.25)


def test_the_ring_means_of_an_encoder_ignore_quarter_turns_of_symmetric_kernels():
    state = torch.rand(2, 5, 8, 8)
    assert torch.allclose(ring_means(state, 3), ring_means(torch.rot90(state, 1, (2, 3)), 3))


def test_widths_and_blocks_must_agree():
    with pytest.raises(MelotteValueError, match="one of each a stage"):
        ImageEncoder(3, 4, 16, widths=(8, 8), blocks=(1,))


def test_outputs_and_losses(small_m83, m83_mocks, m83_network, constants):
    outputs = outputs_of(small_m83, m83_network, constants, m83_mocks.observation)
    with torch.no_grad():
        terms = small_m83.loss(outputs, m83_mocks)
    empty = m83_mocks.targets["class"] == 0
    assert set(terms) == {"negative_log_posterior", "class", "visibility"}
    assert float(terms["negative_log_posterior"][empty].abs().sum()) == 0
    assert float(terms["visibility"][empty].abs().sum()) == 0
    assert bool((terms["class"] > 0).all())
    for values in terms.values():
        assert values.shape == (96,)
        assert bool(torch.isfinite(values).all())


def test_columns_and_flags(small_m83, m83_mocks, m83_network, constants):
    outputs = outputs_of(small_m83, m83_network, constants, m83_mocks.observation)
    columns = small_m83.result_columns(m83_mocks.observation, outputs)
    low, middle, high = (columns[f"visibility{end}"].values for end in ("_16", "", "_84"))
    assert ((low < middle) & (middle < high)).all()
    chance = columns["class_probability"].values
    assert ((chance > 0) & (chance < 1)).all()
    flags = small_m83.result_flags(m83_mocks.observation, outputs)
    assert torch.equal(flags > 0, torch.from_numpy(middle < 1.0))
    assert set(flags.tolist()) <= {0, int(Flag.LOW_VISIBILITY)}


def test_visibility_beyond_its_range_counts_as_its_end():
    from melotte.systems.cluster_images.network import visibility_in_unit

    ends = visibility_in_unit(torch.tensor([0.0, VISIBILITY.high * 10, torch.nan]))[:, 0]
    assert ends[:2].tolist() == pytest.approx([0.0, 1.0])
    assert bool(torch.isnan(ends[2]))


def test_summaries_are_finite_and_see_a_strange_image(small_m83, m83_mocks):
    image = m83_mocks.observation.data["image"].clone()
    plain, names = small_m83.summaries(m83_mocks.observation)
    assert plain.shape == (96, len(names))
    assert bool(torch.isfinite(plain).all())
    image[0] = image[0] * 1000
    strange, _ = small_m83.summaries(with_image(m83_mocks.observation, image))
    place = names.index("background_scatter")
    assert float(strange[0, place] - plain[0, place]) > 5
