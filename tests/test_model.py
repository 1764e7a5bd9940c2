import itertools

import pytest
import torch
from torch import nn

from fmnist_tuning.training.model import FashionCNN, SeededDropout

VARIANTS = list(itertools.product((True, False), (True, False)))


def test_the_base_network_has_421834_parameters():
    """As published; and the blocks are in a ModuleList."""
    network = FashionCNN()
    assert sum(p.numel() for p in network.parameters()) == 421_834
    assert isinstance(network.blocks, nn.ModuleList)


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
@pytest.mark.parametrize(("pooling", "norm"), VARIANTS)
def test_every_network_gives_ten_logits(depth, pooling, norm):
    """Whatever its depth, with and without pooling and batch norm."""
    network = FashionCNN(
        conv_channels=[4] * depth, use_pooling=pooling, use_batch_norm=norm, fc_units=(8, 6)
    )
    assert network(torch.randn(3, 1, 28, 28)).shape == (3, 10)


def reference(network: FashionCNN, pooling: bool, norm: bool) -> nn.Sequential:
    """The network as the journal writes it: Conv → BatchNorm → ReLU → MaxPool, with torch's own."""
    layers: list[nn.Module] = []
    for block in network.blocks:
        layers += [block.conv, *([block.norm] if norm else []), nn.ReLU()]
        layers += [nn.MaxPool2d(2)] if pooling else []
    layers.append(nn.Flatten())
    for hidden in network.hidden:
        layers += [hidden, nn.ReLU()]
    return nn.Sequential(*layers, network.output)


@pytest.mark.parametrize(("pooling", "norm"), VARIANTS)
def test_pooling_before_relu_computes_the_same_function(pooling, norm):
    """Logits and every gradient of one batch agree in float64 with the order of the journal."""
    torch.manual_seed(0)
    network = FashionCNN(
        conv_channels=(3, 5), use_pooling=pooling, use_batch_norm=norm, dropout_rate=0
    ).double()
    if norm:  # the signs and zeros of gamma that could tell the orders apart
        with torch.no_grad():
            network.blocks[0].norm.weight.copy_(torch.tensor([-1.0, 0.0, 2.0]))
    images = torch.randn(16, 1, 28, 28, dtype=torch.float64)
    labels = torch.randint(0, 10, (16,))
    results = []
    for forward in (network, reference(network, pooling, norm)):
        network.zero_grad()
        logits = forward(images)
        nn.functional.cross_entropy(logits, labels).backward()
        # A bias that batch norm takes away has no gradient, where torch finds one of about 1e-17.
        gradients = [
            torch.zeros_like(p) if p.grad is None else p.grad for p in network.parameters()
        ]
        results.append([logits.detach(), *(gradient.clone() for gradient in gradients)])
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


def test_dropout_keeps_the_expectation():
    """A share p is zero, and what is left grows by 1 / (1 - p)."""
    dropout = SeededDropout(0.3, torch.Generator().manual_seed(0))
    out = dropout(torch.ones(1000, 1000))
    assert (out == 0).double().mean() == pytest.approx(0.3, abs=0.002)
    assert out[out > 0].unique().tolist() == pytest.approx([1 / 0.7])
    assert torch.equal(dropout.eval()(torch.ones(5)), torch.ones(5))


def test_dropout_has_a_generator_of_its_own():
    """Neither disturbed by, nor disturbing, anybody else's randomness."""
    before = torch.get_rng_state()
    masks = []
    for _ in range(2):
        dropout = SeededDropout(0.5, torch.Generator().manual_seed(7))
        masks.append(dropout(torch.ones(100)))
    assert torch.equal(*masks)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize(("pooling", "norm"), VARIANTS)
def test_gradients_come_in_the_layout_of_the_images(pooling, norm):
    """From the linear layers too: kernels that meet two layouts at once are slow."""
    network = FashionCNN(conv_channels=(4, 6), use_pooling=pooling, use_batch_norm=norm)
    network.to(memory_format=torch.channels_last)
    layouts = []
    network.blocks[-1].register_full_backward_hook(
        lambda _, __, gradients: layouts.append(
            gradients[0].is_contiguous(memory_format=torch.channels_last)
        )
    )
    network(torch.randn(2, 1, 28, 28)).sum().backward()
    assert layouts == [True]
