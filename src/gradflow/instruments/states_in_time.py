"""States that were seen while a sequence went through, by layer, part and time."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor

from gradflow.instruments.layers_in_time import State, TimeLayer


class Sightings:
    """A callback for `observing` that remembers states.

    Times of a module's second call go on where those of its first end. Only examples of the first call's batch size are
    taken.

    Args:
        first_only: leaves out all parts of a state but the first.
        each: whether to remember a state.
    """

    def __init__(self, first_only: bool = False, each: Callable[[Tensor], bool] = lambda _: True) -> None:
        self.first_only, self.each = first_only, each
        self._seen: dict[tuple[int, str], dict[int, Tensor]] = {}
        self._latest: dict[int, int] = {}
        self._offset: dict[int, int] = {}

    def __call__(self, layer: TimeLayer, time: int, state: State) -> None:
        index = layer.index
        latest = self._latest.get(index)
        if latest is not None and (time >= latest if layer.reverse else time <= latest):  # another call begins
            self._offset[index] = 1 + max(
                (place for (number, _), seen in self._seen.items() if number == index for place in seen), default=-1
            )
        self._latest[index] = time
        for name, part in zip(layer.state_names[: 1 if self.first_only else None], state, strict=False):
            seen = self._seen.get((index, name), {})
            if seen and len(next(iter(seen.values()))) != len(part):
                continue
            if self.each(part):
                self._seen.setdefault((index, name), {})[time + self._offset.get(index, 0)] = part

    def sequences(self, layers: Sequence[TimeLayer]) -> list[tuple[TimeLayer, str, list[int], list[Tensor]]]:
        """(layer, part, times ascending, states) of all that was seen."""
        found = []
        for layer in layers:
            for name in layer.state_names:
                seen = self._seen.get((layer.index, name), {})
                if seen:
                    times = sorted(seen)
                    found.append((layer, name, times, [seen[time] for time in times]))
        return found


def reasons(layers: Sequence[TimeLayer]) -> dict[str, str]:
    """Why no gradient flows through time, per name of a layer through which none does."""
    return {layer.name: layer.no_gradient for layer in layers if layer.no_gradient is not None}
