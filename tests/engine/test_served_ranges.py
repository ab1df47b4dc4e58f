"""Posteriors beyond what a model serves, and known values of the first parameters."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from melotte.engine.known_values import leading_values, parse_known
from melotte.engine.served_ranges import UNSERVED_SHARE, flag_unserved
from melotte.errors import MelotteValueError
from melotte.flags import Flag
from melotte.networks.conditioned import ConditionedPosterior, GivenPosterior
from melotte.networks.heads import build_head
from melotte.networks.point import PointHead
from melotte.parameters import Parameter, Prior

PARAMETERS = (Parameter("distance", 1.0, 100.0, scale="log"), Parameter("mass", 0.0, 10.0))


def model(served, derived=None, head=None, shares=None):
    system = SimpleNamespace(served=served)
    if shares is not None:
        system.served_shares = shares
    if derived is not None:
        system.derived = derived
    network = torch.nn.ModuleList([head or build_head("autoregressive", 4, 2)])
    return SimpleNamespace(
        name="small", system=system, prior=Prior(PARAMETERS), parameters=PARAMETERS, network=network
    )


def planted(*values, spread=0.05, n=2000):
    """Samples of distances about values, in the unit cube."""
    drawn = np.random.default_rng(1).normal(np.log10(values)[:, None], spread, (len(values), n))
    unit = torch.from_numpy(np.clip(drawn / 2, 0, 1))
    return torch.stack([unit, torch.full_like(unit, 0.5)], -1)


def test_only_posteriors_beyond_an_end_are_flagged():
    unit = planted(3.0, 5.0, 20.0, 40.0, 70.0)
    flags, reasons = flag_unserved(model({"distance": (5.0, 40.0)}), unit)
    wanted = int(Flag.OUT_OF_RANGE)
    assert flags.tolist() == [wanted, 0, 0, 0, wanted]
    assert reasons[0] == "distance below 5, the end of what the model serves"
    assert reasons[4].startswith("distance above 40")
    assert reasons[1] == reasons[2] == ""


def test_wide_posteriors_about_an_end_are_not():
    unit = planted(5.0, spread=0.5)
    flags, _ = flag_unserved(model({"distance": (5.0, 40.0)}), unit)
    assert flags.tolist() == [0]
    # Half on either side of the range is no proof that the object lies on one of them.
    both = torch.cat([planted(2.0), planted(80.0)], 1)
    assert flag_unserved(model({"distance": (5.0, 40.0)}), both)[0].tolist() == [0]


def test_the_share_that_flags_can_be_set():
    unit = planted(4.5, 44.0, 5.2, spread=0.1)
    served = {"distance": (5.0, 40.0)}
    wanted = int(Flag.OUT_OF_RANGE)
    assert flag_unserved(model(served), unit)[0].tolist() == [0, 0, 0]
    set_lower = model(served, shares={"distance": 0.6})
    assert flag_unserved(set_lower, unit)[0].tolist() == [wanted, wanted, 0]
    assert flag_unserved(model(served, shares={}), unit)[0].tolist() == [0, 0, 0]


def test_objects_inside_are_rarely_flagged_and_those_twice_beyond_nearly_always():
    rng = np.random.default_rng(4)
    inside = np.exp(rng.uniform(np.log(5), np.log(40), 4000))
    centre = inside * 10 ** rng.normal(0, 0.05, 4000)
    served = model({"distance": (5.0, 40.0)})
    false = (flag_unserved(served, planted(*centre, n=200))[0] > 0).mean()
    assert false < 0.01
    assert UNSERVED_SHARE == 0.9
    beyond = 2.5 * 10 ** rng.normal(0, 0.05, 500)
    assert (flag_unserved(served, planted(*beyond, n=200))[0] > 0).mean() > 0.95


def test_what_follows_from_parameters_is_served_too():
    def derived(theta):
        return {"flux": theta[..., 1] / theta[..., 0] ** 2}

    unit = planted(2.0, 20.0)
    flags, reasons = flag_unserved(model({"flux": (0.0, 0.1)}, derived), unit)
    assert flags.tolist() == [int(Flag.OUT_OF_RANGE), 0]
    assert "flux above 0.1" in reasons[0]
    assert flag_unserved(model({}), unit)[0].tolist() == [0, 0]


def test_a_given_posterior_is_the_conditional_with_the_given_values():
    torch.manual_seed(5)
    head = build_head("autoregressive", 4, 3)
    whole = head(torch.randn(6, 4))
    leading = torch.tensor([0.3])
    given, left = GivenPosterior(whole, leading), ConditionedPosterior(whole, leading)
    drawn = given.sample(50, torch.Generator().manual_seed(2))
    assert drawn.shape == (6, 50, 3)
    assert bool((drawn[..., 0] == leading).all())
    same = left.sample(50, torch.Generator().manual_seed(2))
    torch.testing.assert_close(drawn[..., 1:], same)
    point = torch.rand(6, 3)
    torch.testing.assert_close(given.log_prob(point), left.log_prob(point[:, 1:]))
    assert len(given.select(torch.tensor([1, 4]))) == 2


def test_known_values_are_the_first_and_inside_the_range():
    found = leading_values(model({}), {"distance": 10.0})
    assert found is not None
    torch.testing.assert_close(found, torch.tensor([0.5]))
    assert leading_values(model({}), {}) is None
    for known, said in (
        ({"mass": 3.0}, "cannot be given without the parameters before"),
        ({"distance": 3.0, "mass": 3.0}, "the last is always inferred"),
        ({"distance": 300.0}, r"outside the model's range \[1, 100\]"),
        ({"distanse": 3.0}, "did you mean 'distance'"),
    ):
        with pytest.raises(MelotteValueError, match=said):
            leading_values(model({}), known)
    with pytest.raises(MelotteValueError, match="not autoregressive"):
        leading_values(model({}, head=PointHead(4, 2)), {"distance": 10.0})
    assert parse_known(["distance=7.1"]) == {"distance": 7.1}
    with pytest.raises(MelotteValueError, match="NAME=NUMBER"):
        parse_known(["distance"])
