import torch

from melotte.networks.sets import SetEncoder, segment_mean
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
