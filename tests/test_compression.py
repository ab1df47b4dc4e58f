"""Compression of fluxes."""

import torch

from melotte.compression import asinh


def test_it_is_the_inverse_of_the_hyperbolic_sine():
    size = torch.logspace(-30, 17, 5000)
    values = torch.cat([-size, torch.zeros(1), size])
    torch.testing.assert_close(asinh(values), torch.asinh(values), rtol=1e-6, atol=0)


def test_values_out_of_single_precision_stay_finite():
    found = asinh(torch.tensor([torch.finfo(torch.float32).max, -torch.inf, torch.nan]))
    assert 40 < float(found[0]) < 45
    assert float(found[1]) == -float(found[0])
    assert bool(found[2].isnan())
