"""How many requests are under way at each model of each provider in this process."""

from __future__ import annotations


class Busy:
    """Counts only requests that had a choice: others could go nowhere else, and need not pay for being counted."""

    def __init__(self) -> None:
        self._under_way: dict[int, int] = {}

    def __bool__(self) -> bool:
        return bool(self._under_way)

    def at(self, model_id: int) -> int:
        return self._under_way.get(model_id, 0)

    def enter(self, model_id: int) -> None:
        self._under_way[model_id] = self._under_way.get(model_id, 0) + 1

    def leave(self, model_id: int) -> None:
        left = self._under_way[model_id] - 1
        if left:
            self._under_way[model_id] = left
        else:
            del self._under_way[model_id]


busy = Busy()
