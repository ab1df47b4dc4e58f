import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from melotte import Parameter, Prior
from melotte.errors import MelotteValueError

PARAMETERS = {
    "linear": Parameter("log_age", 6.0, 10.2),
    "log": Parameter("distance", 0.03, 15.0, unit="kpc", scale="log"),
    "normal": Parameter("metallicity", -1.0, 0.5, scale="normal", centre=-0.05, width=0.25),
}


@pytest.mark.parametrize("scale", PARAMETERS)
@given(fraction=st.floats(0.001, 0.999))
def test_unit_cube_round_trip(scale, fraction):
    parameter = PARAMETERS[scale]
    value = parameter.from_unit(torch.tensor(fraction, dtype=torch.float64))
    assert parameter.low <= float(value) <= parameter.high
    assert float(parameter.to_unit(value)) == pytest.approx(fraction, abs=1e-9)


@pytest.mark.parametrize("scale", PARAMETERS)
def test_ends_map_to_the_ends_of_the_cube(scale):
    parameter = PARAMETERS[scale]
    ends = parameter.from_unit(torch.tensor([0.0, 1.0]))
    assert ends.tolist() == pytest.approx([parameter.low, parameter.high], rel=1e-5)


@pytest.mark.parametrize("scale", PARAMETERS)
def test_prior_density_integrates_to_one(scale):
    parameter = PARAMETERS[scale]
    grid = torch.linspace(parameter.low, parameter.high, 20001, dtype=torch.float64)
    density = Prior([parameter]).log_prob(grid[:, None]).exp()
    assert float(torch.trapezoid(density, grid)) == pytest.approx(1, abs=2e-3)


@pytest.mark.parametrize("scale", PARAMETERS)
def test_jacobian_is_the_derivative(scale):
    parameter = PARAMETERS[scale]
    value = parameter.from_unit(torch.linspace(0.02, 0.98, 7, dtype=torch.float64))
    value.requires_grad_(True)
    (slope,) = torch.autograd.grad(parameter.to_unit(value).sum(), value)
    assert torch.allclose(slope.log(), parameter.log_jacobian(value), atol=1e-8)


def test_samples_stay_inside_and_outside_has_no_density(generator):
    prior = Prior(list(PARAMETERS.values()))
    theta = prior.sample(20_000, generator)
    assert prior.contains(theta).all()
    assert torch.isfinite(prior.log_prob(theta)).all()
    outside = theta.clone()
    outside[:, 1] = 15.1
    outside[0, 1] = math.nan
    assert (prior.log_prob(outside) == -math.inf).all()
    assert float(theta[:, 2].mean()) == pytest.approx(-0.05, abs=0.01)


def test_json_round_trip():
    for parameter in PARAMETERS.values():
        assert Parameter.from_json(parameter.as_json()) == parameter


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"low": 2.0, "high": 1.0}, "low must be below high"),
        ({"low": 0.0, "high": math.nan}, "not finite"),
        ({"low": 0.0, "high": 1.0, "scale": "log"}, "low > 0"),
        ({"low": 0.0, "high": 1.0, "scale": "cubic"}, "cubic"),
        ({"low": 0.0, "high": 1.0, "scale": "normal"}, "centre"),
        ({"low": 0.0, "high": 1.0, "centre": 0.5, "width": 1.0}, "centre"),
    ],
)
def test_bad_parameters_say_what_is_allowed(settings, complaint):
    with pytest.raises(MelotteValueError, match=complaint):
        Parameter("x", **settings)


def test_names_are_unique():
    with pytest.raises(MelotteValueError, match="uniquely"):
        Prior([PARAMETERS["linear"], PARAMETERS["linear"]])
