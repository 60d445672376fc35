"""Sensitivity against sums over parameters, and who is trained afterwards."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from nearfar.errors import ConfigError
from nearfar.training.sensitivity import Sensitivity, finetune_only, select_modules


class Tower(nn.Module):
    """Modules in modules, one with a parameter beside them."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3, 4)
        self.inner = nn.Sequential(nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 4, bias=False))
        self.scale = nn.Parameter(torch.ones(4))
        self.last = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.last(self.scale * self.inner(self.first(x)))
        return out


OWN = {
    "": ["scale"],
    "first": ["first.weight", "first.bias"],
    "inner.0": ["inner.0.weight", "inner.0.bias"],
    "inner.2": ["inner.2.weight"],
    "last": ["last.weight", "last.bias"],
}


def test_equals_the_definition_over_epochs() -> None:
    model, rng = Tower(), torch.Generator().manual_seed(0)
    tracker = Sensitivity(model)
    assert set(tracker.scores().values()) == {0.0}
    states = [{name: p.detach().tolist() for name, p in model.named_parameters()}]
    for _ in range(3):
        with torch.no_grad():
            for p in model.parameters():
                p.add_(torch.randn(p.shape, generator=rng))
        tracker.update(model)
        states.append({name: p.detach().tolist() for name, p in model.named_parameters()})

    def flat(state: dict[str, list[float]], names: list[str]) -> list[float]:
        return [float(x) for name in names for x in torch.tensor(state[name]).flatten()]

    for module, names in OWN.items():
        moves = [
            math.dist(flat(new, names), flat(old, names)) / len(flat(new, names))
            for old, new in zip(states, states[1:], strict=False)
        ]
        assert tracker.scores()[module] == pytest.approx(sum(moves) / 3, rel=1e-5)
    assert set(tracker.scores()) == set(OWN)


def test_the_way_counts_and_not_where_it_ends() -> None:
    model = nn.Linear(1, 1, bias=False)
    tracker, start = Sensitivity(model), model.weight.detach().clone()
    for step in (3.0, -3.0):
        with torch.no_grad():
            model.weight += step
        tracker.update(model)
    torch.testing.assert_close(model.weight.detach(), start)
    assert tracker.scores()[""] == pytest.approx(3)


def test_another_model_is_refused() -> None:
    tracker = Sensitivity(nn.Linear(2, 2))
    for other in (nn.Linear(2, 3), nn.Sequential(nn.Linear(2, 2)), nn.Linear(2, 2, bias=False)):
        with pytest.raises(ConfigError, match="model: the modules and shapes"):
            tracker.update(other)


@pytest.mark.parametrize(("share", "count"), [(0.01, 1), (0.1, 1), (0.3, 3), (0.31, 4), (0.7, 7), (1.0, 10)])
def test_selects_the_most_sensitive(share: float, count: int) -> None:
    scores = {f"m{i}": float((7 * i) % 10) for i in range(10)}
    names = select_modules(scores, share)
    assert len(names) == count
    assert [scores[name] for name in names] == [9.0 - i for i in range(count)]
    assert select_modules({"b": 1.0, "a": 1.0, "c": 0.0}, 0.6) == ["b", "a"]


def test_only_the_chosen_are_trained_and_all_is_as_before() -> None:
    torch.manual_seed(0)
    model = Tower()
    model.last.bias.requires_grad_(False)  # frozen by the user
    wanted = {name: p.requires_grad for name, p in model.named_parameters()}
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    with finetune_only(model, ["inner.0", "", "inner.0", "last"]) as parameters:
        assert len(parameters) == 5
        optimizer = torch.optim.SGD(parameters, lr=0.1)
        model(torch.randn(8, 3)).square().mean().backward()
        optimizer.step()
        grads = {name for name, p in model.named_parameters() if p.grad is not None}
    assert grads == {*OWN["inner.0"], *OWN[""], *OWN["last"]}
    moved = {name for name, p in model.named_parameters() if not torch.equal(p.detach(), before[name])}
    assert moved == grads
    assert {name: p.requires_grad for name, p in model.named_parameters()} == wanted


def test_an_error_inside_leaves_nothing_frozen() -> None:
    model = Tower()
    with pytest.raises(RuntimeError, match="inside"), finetune_only(model, ["last"]):
        raise RuntimeError("inside")
    assert all(p.requires_grad for p in model.parameters())


def test_bad_arguments_are_named() -> None:
    for share in (0.0, 1.1, math.nan):
        with pytest.raises(ConfigError, match="top_fraction: a number in"):
            select_modules({"a": 1.0}, share)
    with pytest.raises(ConfigError, match="scores: at least one"):
        select_modules({}, 0.5)
    model = Tower()
    for name in ("unknown", "inner"):
        with (
            pytest.raises(ConfigError, match=rf"names: .*'inner.0'.* got '{name}'"),
            finetune_only(model, [name]),
        ):
            pass
    assert all(p.requires_grad for p in model.parameters())
