import torch
from torch import nn

from omnictl.nn.lora import adapt


def make() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.GELU(), nn.Linear(8, 4, bias=False))


def test_it_begins_as_the_model_that_it_adapts() -> None:
    plain, adapted = make(), make()
    adapt(adapted, rank=2, alpha=4.0)
    x = torch.randn(3, 6)
    assert torch.equal(plain(x), adapted(x))


def test_the_weight_is_the_frozen_one_and_a_product() -> None:
    plain, adapted = make(), make()
    adapt(adapted, rank=2, alpha=4.0)
    low = adapted[0].parametrizations.weight[0]
    nn.init.normal_(low.up)
    expected = plain[0].weight + 2.0 * torch.einsum("or,ri->oi", low.up, low.down)
    torch.testing.assert_close(adapted[0].weight, expected)
    assert torch.linalg.matrix_rank(adapted[0].weight - plain[0].weight) == 2


def test_only_the_product_is_trained() -> None:
    model = make()
    adapt(model, rank=2, alpha=4.0)
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert {name.rsplit(".", 1)[-1] for name in trained} == {"up", "down"}
    assert len(trained) == 4
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.1)
    for _ in range(3):
        model(torch.randn(5, 6)).square().sum().backward()
        optimizer.step()
    changed = {name for name, parameter in model.named_parameters() if not torch.equal(parameter, before[name])}
    assert changed == trained
