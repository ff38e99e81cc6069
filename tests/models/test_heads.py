import math

import numpy as np
import pytest
import torch

from cmkd.models.heads import AttentionHead, MeanHead


def _map(batch=2, channels=6, frequency=3, time=5):
    return torch.randn(batch, channels, frequency, time, dtype=torch.float64)


def test_mean_head_is_mean_then_linear():
    torch.manual_seed(0)
    head, features = MeanHead(6, 4).double(), _map()
    weight, bias = head.linear.weight.detach().numpy(), head.linear.bias.detach().numpy()
    expected = features.numpy().mean(axis=(2, 3)) @ weight.T + bias
    np.testing.assert_allclose(head(features).detach().numpy(), expected, rtol=0, atol=1e-12)


def test_attention_head_is_its_formula_worked_by_loops():
    torch.manual_seed(0)
    heads, classes, features = 2, 3, _map(batch=1)
    head = AttentionHead(6, classes, heads).double().requires_grad_(False)
    head.head_weight.data = torch.tensor([0.3, -1.2], dtype=torch.float64)
    att, cla = head.attention, head.classify
    over_time = features[0].mean(dim=1)
    for k in range(classes):
        expected = 0.0
        for h in range(heads):
            row = h * classes + k
            a = [float(att.weight[row, :, 0] @ over_time[:, t] + att.bias[row]) for t in range(5)]
            c = [float(cla.weight[row, :, 0] @ over_time[:, t] + cla.bias[row]) for t in range(5)]
            gates = [1 / (1 + math.exp(-value)) for value in a]
            pooled = sum(g * value for g, value in zip(gates, c, strict=True)) / sum(gates)
            expected += float(head.head_weight[h]) * pooled
        assert head(features)[0, k].item() == pytest.approx(expected, abs=1e-12)


def test_attention_heads_start_with_equal_shares():
    head = AttentionHead(8, 5, heads=4)
    assert head.head_weight.tolist() == [0.25] * 4
    assert sum(p.numel() for p in head.parameters()) == 2 * 4 * (8 * 5 + 5) + 4


def test_attention_that_is_shut_everywhere_becomes_the_plain_mean():
    torch.manual_seed(0)
    head, features = AttentionHead(6, 3, heads=1).double(), _map()
    head.attention.bias.data.fill_(-1e4)
    logits = head.classify(features.mean(dim=2)).mean(dim=-1)
    torch.testing.assert_close(head(features), logits, rtol=0, atol=1e-12)


def test_attention_gives_logits_not_probabilities():
    torch.manual_seed(0)
    head = AttentionHead(6, 3)
    head.classify.bias.data.fill_(40.0)
    assert (head(_map().float()) > 30).all()


def test_dropout_acts_in_training_only():
    head, features = AttentionHead(6, 3, dropout=0.5), _map().float()
    torch.manual_seed(1)
    first = head(features)
    torch.manual_seed(2)
    assert not torch.equal(first, head(features))
    assert torch.equal(head.eval()(features), head(features))
