"""What a step asks for again and again, made once: weights and coefficients of its frames."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

_made: dict[Hashable, tuple[object, Tensor]] | None = None


@contextmanager
def sharing() -> Iterator[None]:
    """Lets `shared` hold on to what it makes; parameters stay as they are meanwhile."""
    global _made
    outer, _made = _made, {}
    try:
        yield
    finally:
        _made = outer


def shared(owner: object, key: Hashable, make: Callable[[], Tensor]) -> Tensor:
    """Returns what `make` returns; within `sharing` that of the first time.

    Its gradient then is the sum of all uses', and goes back through what made it once.

    Args:
        owner: Whose it is.
        key: What it depends on besides the owner's numbers.
        make: Makes it.
    """
    if _made is None:
        return make()
    # Made without gradients it serves no use that wants them; the other way round it does.
    has_gradient = torch.is_grad_enabled() or (id(owner), key, True) in _made
    place = (id(owner), key, has_gradient)
    if place not in _made:
        _made[place] = (owner, make())  # while it is held no other owner has its id
    return _made[place][1]
