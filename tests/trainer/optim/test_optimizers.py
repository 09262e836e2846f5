from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from omnictl.errors import CheckpointError
from omnictl.models.thinker import Thinker, ThinkerConfig, training_flops
from omnictl.trainer.config import TrainConfig
from omnictl.trainer.optim.muon import polar_flops
from omnictl.trainer.optim.optimizers import Optimizers, choose_optimizer, hidden_matrices

CONFIG = TrainConfig(lr=1e-2, muon_lr=1e-2, weight_decay=0.1)
SHAPE = ThinkerConfig(layers=2, width=16, heads=2, kv_heads=1, hidden=24, context=16, experts=3)


def fresh_model() -> Thinker:
    torch.manual_seed(0)
    return Thinker(SHAPE, 30)


def set_gradients(model: nn.Module, step: int) -> None:
    generator = torch.Generator().manual_seed(step)
    for parameter in model.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator)


def take_steps(optimizers: Optimizers, model: nn.Module, steps: range) -> None:
    for step in steps:
        set_gradients(model, step)
        for part in optimizers.parts:
            part.step()


def test_muon_gets_hidden_matrices_alone() -> None:
    model = fresh_model()
    optimizers = Optimizers(model, CONFIG, "muon")
    adamw, muon = ({p for group in part.param_groups for p in group["params"]} for part in optimizers.parts)
    names = {parameter: name for name, parameter in model.named_parameters()}
    assert {names[p] for p in muon} == {
        name for name in names.values() if name.endswith("_proj.weight") and name.startswith("blocks.")
    }
    assert any(".experts.2.down_proj" in names[p] for p in muon)
    left = {names[p] for p in adamw}
    assert {"embedding.weight", "norm.weight", "blocks.0.mlp.router.weight", "blocks.1.attention.q_norm.weight"} < left
    assert not adamw & muon
    assert adamw | muon == set(names)


def test_output_heads_stay_with_adamw() -> None:
    model = nn.ModuleDict({"body": nn.Linear(2, 2), "head": nn.Linear(2, 2)})
    assert set(hidden_matrices(model)) == {"body.weight"}


def test_adamw_takes_everything_but_frozen_parameters() -> None:
    model = fresh_model()
    model.embedding.weight.requires_grad_(False)
    optimizers = Optimizers(model, CONFIG, "adamw")
    assert len(optimizers.parts) == 1
    assert len(optimizers.parameters) == len(list(model.parameters())) - 1
    assert not any(p is model.embedding.weight for p in optimizers.parameters)


@pytest.mark.parametrize("kind", ["adamw", "muon"])
def test_norms_do_not_decay(kind: str) -> None:
    model = fresh_model()
    optimizers = Optimizers(model, CONFIG, kind)
    for block in model.blocks.parameters():
        block.data.fill_(1.0)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    for part in optimizers.parts:
        part.step()
    for name, parameter in model.named_parameters():
        if parameter.ndim < 2:
            assert torch.equal(parameter, before[name]), name
        else:
            torch.testing.assert_close(parameter.detach(), before[name] * (1 - 1e-2 * 0.1), msg=name)


def test_auto_takes_muon_once_a_step_has_enough_tokens() -> None:
    model = fresh_model()
    price = sum(polar_flops(weight.shape) for weight in hidden_matrices(model).values())
    assert choose_optimizer(CONFIG, model, 3 * price * 0.99) == "adamw"
    assert choose_optimizer(CONFIG, model, 3 * price * 1.01) == "muon"
    kinds = [choose_optimizer(CONFIG, model, training_flops(model, torch.full((n,), 16))) for n in (1, 4, 1000)]
    assert kinds[0] == "adamw"
    assert kinds[-1] == "muon"


def test_auto_never_takes_muon_without_a_hidden_matrix() -> None:
    assert choose_optimizer(CONFIG, nn.Embedding(5, 5), 1e15) == "adamw"


@pytest.mark.parametrize("kind", ["adamw", "muon"])
def test_a_choice_is_respected(kind: str) -> None:
    config = CONFIG.model_copy(update={"optimizer": kind})
    assert choose_optimizer(config, fresh_model(), 1.0) == choose_optimizer(config, fresh_model(), 1e15) == kind


@pytest.mark.parametrize("kind", ["adamw", "muon"])
def test_state_survives_a_file_bit_for_bit(kind: str, tmp_path: Path) -> None:
    whole, halves = fresh_model(), fresh_model()
    take_steps(Optimizers(whole, CONFIG, kind), whole, range(6))

    first = Optimizers(halves, CONFIG, kind)
    take_steps(first, halves, range(3))
    save_file(first.state_tensors(), tmp_path / "optimizer.safetensors")
    second = Optimizers(halves, CONFIG, kind)
    second.load_state_tensors(load_file(tmp_path / "optimizer.safetensors"))
    take_steps(second, halves, range(3, 6))

    for one, two in zip(whole.parameters(), halves.parameters(), strict=True):
        assert torch.equal(one, two)


def test_every_parameter_has_its_moments_by_name() -> None:
    model = fresh_model()
    optimizers = Optimizers(model, CONFIG, "muon")
    assert optimizers.state_tensors() == {}
    take_steps(optimizers, model, range(1))
    tensors: dict[str, Tensor] = optimizers.state_tensors()
    assert {key.rpartition("/")[0] for key in tensors} == {name for name, _ in model.named_parameters()}
    assert "embedding.weight/exp_avg_sq" in tensors
    assert "blocks.0.attention.q_proj.weight/momentum_buffer" in tensors


def test_state_of_a_foreign_parameter_is_refused() -> None:
    with pytest.raises(CheckpointError) as caught:
        Optimizers(fresh_model(), CONFIG, "adamw").load_state_tensors({"decoder.weight/exp_avg": torch.zeros(1)})
    assert caught.value.message == ("the checkpoint has optimizer state for 'decoder.weight', which this model does not have")
    assert caught.value.fix == "resume with the run's own config, or start a new run with --init"


def test_one_factor_for_all_rates() -> None:
    optimizers = Optimizers(fresh_model(), CONFIG.model_copy(update={"muon_lr": 0.5}), "muon")
    for factor in (0.5, 0.1):  # of the peak, not of what it was before
        optimizers.set_factor(factor)
        rates = [group["lr"] for part in optimizers.parts for group in part.param_groups]
        assert rates == [1e-2 * factor, 1e-2 * factor, 0.5 * factor]


def test_dropped_gradients_are_gone() -> None:
    model = fresh_model()
    optimizers = Optimizers(model, CONFIG, "muon")
    set_gradients(model, 0)
    optimizers.zero_grad()
    assert all(parameter.grad is None for parameter in model.parameters())


AVERAGED = CONFIG.model_copy(update={"average": 0.9})


def take_averaged_steps(optimizers: Optimizers, model: nn.Module, steps: range) -> None:
    for step in steps:
        take_steps(optimizers, model, range(step, step + 1))
        optimizers.average(step)


def snapshot(model: nn.Module) -> dict[str, Tensor]:
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


def averages_of(optimizers: Optimizers, model: nn.Module) -> dict[str, Tensor]:
    with optimizers.use_averages():
        return snapshot(model)


def same(one: dict[str, Tensor], two: dict[str, Tensor]) -> bool:
    return one.keys() == two.keys() and all(torch.equal(tensor, two[name]) for name, tensor in one.items())


@pytest.mark.parametrize("kind", ["adamw", "muon"])
@pytest.mark.parametrize("decay", [0.05, 0.5, 0.9])
def test_the_average_is_that_of_the_weights_after_each_step(kind: str, decay: float) -> None:
    model = fresh_model()
    optimizers = Optimizers(model, CONFIG.model_copy(update={"average": decay}), kind)
    expected = {name: tensor.double() for name, tensor in snapshot(model).items()}
    for step in range(12):
        take_averaged_steps(optimizers, model, range(step, step + 1))
        share = min(decay, (1 + step) / (10 + step))
        for name, tensor in snapshot(model).items():
            expected[name] = share * expected[name] + (1 - share) * tensor.double()
        for name, tensor in averages_of(optimizers, model).items():
            torch.testing.assert_close(tensor.double(), expected[name], rtol=1e-5, atol=1e-6)


def test_steps_are_the_same_whether_or_not_they_are_averaged() -> None:
    plain, averaged = fresh_model(), fresh_model()
    take_averaged_steps(Optimizers(plain, CONFIG, "muon"), plain, range(5))
    optimizers = Optimizers(averaged, AVERAGED, "muon")
    for step in range(5):
        take_averaged_steps(optimizers, averaged, range(step, step + 1))
        averages_of(optimizers, averaged)
    assert same(snapshot(plain), snapshot(averaged))


def test_before_the_first_step_the_average_is_the_weights() -> None:
    model = fresh_model()
    before = snapshot(model)
    assert same(averages_of(Optimizers(model, AVERAGED, "adamw"), model), before)


def test_averages_take_the_place_of_the_weights_for_a_while() -> None:
    model = fresh_model()
    optimizers = Optimizers(model, AVERAGED, "adamw")
    take_averaged_steps(optimizers, model, range(3))
    weights, tokens = snapshot(model), torch.arange(8)[None]
    parameters = list(model.parameters())
    with optimizers.use_averages():
        inside = snapshot(model)
        assert not any(torch.equal(inside[name], tensor) for name, tensor in weights.items())
        assert all(one is two for one, two in zip(parameters, model.parameters(), strict=True))
        with torch.no_grad():
            hidden = model(tokens).hidden
    assert same(snapshot(model), weights)
    with torch.no_grad():
        assert not torch.equal(model(tokens).hidden, hidden)
    assert same(averages_of(optimizers, model), inside)  # and it can be done again


def test_weights_come_back_after_an_error() -> None:
    model = fresh_model()
    optimizers = Optimizers(model, AVERAGED, "adamw")
    take_averaged_steps(optimizers, model, range(3))
    weights = snapshot(model)
    with pytest.raises(KeyboardInterrupt), optimizers.use_averages():
        raise KeyboardInterrupt
    assert same(snapshot(model), weights)


def test_without_an_average_nothing_is_exchanged_or_stored() -> None:
    model = fresh_model()
    optimizers = Optimizers(model, CONFIG, "adamw")
    take_averaged_steps(optimizers, model, range(2))
    assert same(averages_of(optimizers, model), snapshot(model))
    assert not any(key.endswith("/average") for key in optimizers.state_tensors())


def test_frozen_weights_are_not_averaged() -> None:
    model = fresh_model()
    model.embedding.weight.requires_grad_(False)
    optimizers = Optimizers(model, AVERAGED, "adamw")
    averaged = {key.removesuffix("/average") for key in optimizers.state_tensors() if key.endswith("/average")}
    assert averaged == {name for name, _ in model.named_parameters()} - {"embedding.weight"}


@pytest.mark.parametrize("kind", ["adamw", "muon"])
def test_averages_survive_a_file_bit_for_bit(kind: str, tmp_path: Path) -> None:
    whole, halves = fresh_model(), fresh_model()
    undisturbed = Optimizers(whole, AVERAGED, kind)
    take_averaged_steps(undisturbed, whole, range(6))

    first = Optimizers(halves, AVERAGED, kind)
    take_averaged_steps(first, halves, range(3))
    state = first.state_tensors()
    assert {key for key in state if key.endswith("/average")} == {f"{name}/average" for name, _ in halves.named_parameters()}
    save_file(state, tmp_path / "optimizer.safetensors")
    second = Optimizers(halves, AVERAGED, kind)
    second.load_state_tensors(load_file(tmp_path / "optimizer.safetensors"))
    take_averaged_steps(second, halves, range(3, 6))

    assert same(snapshot(halves), snapshot(whole))
    assert same(averages_of(second, halves), averages_of(undisturbed, whole))


@pytest.mark.parametrize("lacking", ["embedding.weight", "norm.weight"])
def test_an_average_that_a_checkpoint_lacks_is_refused(lacking: str) -> None:
    """It would be that of the weights before they were loaded."""
    giver, model = fresh_model(), fresh_model()
    first, second = Optimizers(giver, AVERAGED, "muon"), Optimizers(model, AVERAGED, "muon")
    take_averaged_steps(first, giver, range(2))
    tensors = first.state_tensors()
    del tensors[f"{lacking}/average"]
    before = averages_of(second, model)
    with pytest.raises(CheckpointError) as caught:
        second.load_state_tensors(tensors)
    assert caught.value.message == f"the checkpoint has no average of '{lacking}', which train.average asks for"
    assert caught.value.where == lacking
    assert caught.value.fix == "resume with the run's own config, or start a new run with --init"
    assert same(averages_of(second, model), before)  # nothing of it was taken over
    assert not any(part.state for part in second.parts)


def test_moments_without_any_average_are_refused_where_averages_are_asked_for() -> None:
    giver = fresh_model()
    first = Optimizers(giver, CONFIG, "adamw")
    take_steps(first, giver, range(2))
    name = next(iter(first.named))
    with pytest.raises(CheckpointError, match=f"^the checkpoint has no average of '{name}', which train.average asks for"):
        Optimizers(fresh_model(), AVERAGED, "adamw").load_state_tensors(first.state_tensors())


def test_averages_that_nobody_asked_for_are_refused() -> None:
    """They would be judged in the place of the weights."""
    giver = fresh_model()
    first = Optimizers(giver, AVERAGED, "adamw")
    take_averaged_steps(first, giver, range(2))
    with pytest.raises(CheckpointError, match=r"^the checkpoint has averages of the weights, which train"):
        Optimizers(fresh_model(), CONFIG, "adamw").load_state_tensors(first.state_tensors())
