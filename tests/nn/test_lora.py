import torch
from torch import nn

from omnictl.nn.lora import adapt, match_updates, updates_of


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


def test_weights_of_a_model_with_and_without_updates_become_each_others() -> None:
    adapted, x = make(), torch.randn(3, 6)
    adapt(adapted, rank=2, alpha=4.0)
    for update in updates_of(adapted).values():
        nn.init.normal_(update.up)
    plain = make()
    plain.load_state_dict(match_updates(adapted.state_dict(), plain.state_dict(), 4.0, 4.0))
    torch.testing.assert_close(plain(x), adapted(x))
    again = make()
    adapt(again, rank=3, alpha=1.0)
    again.load_state_dict(match_updates(plain.state_dict(), again.state_dict(), 4.0, 1.0))
    assert torch.equal(again(x), plain(x))
    assert list(updates_of(again)) == ["0", "2"]
    unchanged = match_updates(again.state_dict(), again.state_dict(), 4.0, 4.0)
    assert all(torch.equal(unchanged[name], tensor) for name, tensor in again.state_dict().items())


def test_updates_do_the_same_at_another_alpha() -> None:
    large, small, x = make(), make(), torch.randn(3, 6)
    adapt(large, rank=2, alpha=32.0)
    adapt(small, rank=2, alpha=16.0)
    for update in updates_of(large).values():
        nn.init.normal_(update.up)
    small.load_state_dict(match_updates(large.state_dict(), small.state_dict(), 32.0, 16.0))
    torch.testing.assert_close(small(x), large(x))
