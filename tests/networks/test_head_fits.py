"""Short trainings on problems whose posterior is known: edges, a linear model, missing labels."""

import functools
import math
import warnings

import pytest
import torch

from melotte.networks.heads import build_head

RESPONSE = torch.tensor([[1.0, 0.6], [0.2, 0.8], [0.5, -0.5]])
NOISE = 0.15
TRUTHS = torch.tensor([[0.5, 0.5], [0.4, 0.6], [0.6, 0.45]])
FULL = [
    ("mixture", {"components": 4, "hidden": 64}),
    ("autoregressive", {"components": 4, "hidden": 64}),
    ("flow", {"bins": 8, "hidden": 64}),
    ("grid", {"bins": 24, "hidden": 64}),
]
KINDS = [kind for kind, _ in FULL]
STEPS = {"mixture": 400, "autoregressive": 250, "flow": 250, "grid": 400}
"""Of a linear model's training."""


def keyed(seed):
    return torch.Generator().manual_seed(seed)


def train(head, batches, n_steps, rate):
    """Minimise the negative log density of ``batches(step) -> (features, u, known)``."""
    optimiser = torch.optim.Adam(head.parameters(), rate)
    for step in range(n_steps):
        optimiser.param_groups[0]["lr"] = rate * (1 - step / n_steps)
        features, u, known = batches(step)
        optimiser.zero_grad()
        (-head(features).log_prob_known(u, known).mean()).backward()
        optimiser.step()
    return head.eval()


def cut_normal(uniform):
    """Normal of mean -0.1 and width 0.15 cut at 0: highest at the face of the cube."""
    place, width = -0.1, 0.15
    ends = torch.special.ndtr(torch.tensor([(0 - place) / width, (1 - place) / width]))
    u = place + width * torch.special.ndtri(ends[0] + (ends[1] - ends[0]) * uniform)
    constant = math.log(width * math.sqrt(2 * math.pi)) + math.log(float(ends[1] - ends[0]))
    u = u.clamp(0, 1)
    return u, -0.5 * ((u - place) / width) ** 2 - constant


def pile(uniform):
    """Exponential rise of scale 0.02 towards the face at 1."""
    scale = 0.02
    u = 1 + scale * torch.log1p(-uniform * (1 - math.exp(-1 / scale)))
    return u, (u - 1) / scale - math.log(scale)


def flat(uniform):
    """No information: the prior."""
    return uniform, torch.zeros_like(uniform)


def divergence(kind, settings, target):
    """Kullback-Leibler divergence of a fitted head from a one-dimensional target, nats."""
    torch.manual_seed(0)
    head = build_head(kind, 2, 1, **settings)
    generator = keyed(1)
    known = torch.ones(512, 1, dtype=torch.bool)

    def batches(step):
        del step
        u, _ = target(torch.rand(512, generator=generator))
        return torch.ones(512, 2), u[:, None], known

    train(head, batches, 200, 3e-3)
    u, density = target(torch.rand(20_000, generator=generator))
    with torch.no_grad():
        return float((density - head(torch.ones(20_000, 2)).log_prob(u[:, None])).mean())


@pytest.mark.parametrize("target", [cut_normal, pile, flat])
@pytest.mark.parametrize("kind", ["mixture", "autoregressive", "flow"])
def test_posteriors_against_a_face_are_representable(kind, target):
    assert divergence(kind, {}, target) < 0.012


def test_one_normal_in_logit_space_cannot_lean_on_a_face():
    """The measure above tells: a family too poor for the target is far off."""
    assert divergence("mixture", {"components": 1}, pile) > 0.05


def mocks(n, generator):
    u = torch.rand(n, 2, generator=generator)
    return u, u @ RESPONSE.T + NOISE * torch.randn(n, 3, generator=generator)


def exact_moments(x):
    """Mean, width and correlation of the linear model's posteriors, cut to the cube."""
    covariance = NOISE**2 * torch.linalg.inv(RESPONSE.T @ RESPONSE)
    factor = torch.linalg.cholesky(covariance)
    middle = x @ torch.linalg.pinv(RESPONSE).T
    found = []
    for i, place in enumerate(middle):
        drawn = place + torch.randn(100_000, 2, generator=keyed(i)) @ factor.T
        found.append(moments(drawn[((drawn > 0) & (drawn < 1)).all(1)]))
    return found


def moments(drawn):
    return drawn.mean(0), drawn.std(0), float(torch.corrcoef(drawn.T)[0, 1])


@functools.cache
def linear_head(kind, known_of):
    torch.manual_seed(0)
    generator = keyed(1)

    def batches(step):
        del step
        u, x = mocks(256, generator)
        known = known_of(torch.rand(256, generator=generator))
        return 2 * x - 1.5, torch.where(known, u, math.nan), known

    return train(build_head(kind, 3, 2, **dict(FULL)[kind]), batches, STEPS[kind], 4e-3)


def all_known(chance):
    return torch.ones(len(chance), 2, dtype=torch.bool)


def half_known(chance):
    """Both labels for half of the objects, the first or the second for a quarter each."""
    return torch.stack([chance < 0.75, (chance < 0.5) | (chance > 0.75)], 1)


@pytest.mark.parametrize("known_of", [all_known, half_known])
@pytest.mark.parametrize("kind", KINDS)
def test_linear_model_is_recovered(kind, known_of):
    head = linear_head(kind, known_of)
    x = TRUTHS @ RESPONSE.T
    with torch.no_grad():
        drawn = head(2 * x - 1.5).sample(20_000, keyed(2))
    for one, (mean, width, correlation) in zip(drawn, exact_moments(x), strict=True):
        found_mean, found_width, found_correlation = moments(one)
        assert ((found_mean - mean).abs() < 0.12 * width).all()
        assert ((found_width / width - 1).abs() < 0.12).all()
        assert found_correlation == pytest.approx(correlation, abs=0.12)


def test_sbi_finds_the_same_posterior(tmp_path, monkeypatch):
    """An independent implementation, on the same linear model."""
    # It writes its training logs to the working folder.
    monkeypatch.chdir(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        inference = pytest.importorskip("sbi.inference", reason="sbi is the oracle of this test")
        from sbi.utils import BoxUniform

        u, x = mocks(2000, keyed(3))
        prior = BoxUniform(torch.zeros(2), torch.ones(2))
        torch.manual_seed(0)
        theirs = inference.NPE(prior=prior, density_estimator="mdn", show_progress_bars=False)
        theirs.append_simulations(u, x).train(max_num_epochs=40, training_batch_size=100)
        observed = TRUTHS[1:2] @ RESPONSE.T
        drawn = theirs.build_posterior().sample((4000,), x=observed, show_progress_bars=False)
    head = linear_head("flow", all_known)
    with torch.no_grad():
        ours = head(2 * observed - 1.5).sample(4000, keyed(4))[0]
    (their_mean, their_width, _), (mean, width, _) = moments(drawn), moments(ours)
    assert ((their_mean - mean).abs() < 0.3 * width).all()
    assert ((their_width / width - 1).abs() < 0.25).all()
