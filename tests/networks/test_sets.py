import torch

from melotte.networks.sets import SetBlock, SetEncoder, segment_mean
from melotte.ragged import Ragged


def make_sets(generator, sizes=(5, 0, 1, 40)):
    return Ragged.pack([torch.randn(n, 3, generator=generator) for n in sizes])


def make_encoder(**settings):
    torch.manual_seed(0)
    return SetEncoder(3, 2, width=16, blocks=2, attention_seeds=4, features=8, **settings).eval()


def test_order_of_elements_does_not_matter(generator):
    sets, context = make_sets(generator), torch.randn(4, 2, generator=generator)
    encoder = make_encoder()
    shuffled = Ragged.pack(
        [one[torch.randperm(len(one), generator=generator)] for one in (sets[i] for i in range(4))]
    )
    assert torch.allclose(encoder(sets, context), encoder(shuffled, context), atol=1e-5)


def test_sets_do_not_see_each_other(generator):
    sets, context = make_sets(generator), torch.randn(4, 2, generator=generator)
    encoder = make_encoder()
    together = encoder(sets, context)
    for i in range(4):
        alone = encoder(Ragged.pack([sets[i]]), context[i : i + 1])
        assert torch.allclose(alone[0], together[i], atol=1e-5)


def test_every_weight_gets_a_gradient(generator):
    sets, context = make_sets(generator), torch.randn(4, 2, generator=generator)
    encoder = make_encoder()
    encoder(sets, context).square().sum().backward()
    for name, weight in encoder.named_parameters():
        assert weight.grad is not None, name
        assert weight.grad.abs().sum() > 0 or name.endswith("logits.bias"), name


def test_an_element_changes_its_own_set_alone(generator):
    sets, context = make_sets(generator), torch.randn(4, 2, generator=generator)
    encoder = make_encoder()
    changed = sets.values.clone()
    changed[7] += 3
    difference = encoder(Ragged(changed, sets.offsets), context) - encoder(sets, context)
    assert difference[3].abs().max() > 1e-4
    assert difference[:3].abs().max() == 0


def test_segment_mean_of_empty_set_is_zero():
    sets = Ragged.pack([torch.ones(2, 1), torch.zeros(0, 1), torch.full((4, 1), 3.0)])
    mean = segment_mean(sets.values, sets.index, sets.counts)
    assert mean[:, 0].tolist() == [1.0, 0.0, 3.0]


def test_bounded_attention_stays_an_average_of_many():
    """With logits of at most s no element has more than exp(2 s) times another's weight."""
    torch.manual_seed(2)
    block = SetBlock(8, 2, sharpness=1.5)
    with torch.no_grad():
        block.logits.weight.mul_(1e4)
        hidden = torch.randn(50, 8)
        logits = 1.5 * torch.tanh(block.logits(hidden) / 1.5)
        value = block.value(hidden).unflatten(-1, (2, -1))
        weight = torch.softmax(logits, 0)
        expected = (weight[..., None] * value).sum(0).flatten()
        found = block._attend(hidden, torch.zeros(50, dtype=torch.long), 1)[0]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert (weight.amax(0) / weight.amin(0)).max() <= 20.09  # exp(2 * 1.5)
