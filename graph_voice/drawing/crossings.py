"""The order of the boxes and lines within each layer, so that few edges cross."""

from bisect import bisect_right, insort
from collections.abc import Sequence

from graph_voice.drawing.boxes import Slot


def order(rows: Sequence[list[Slot]]) -> None:
    """Find an order with few crossings: sort by the mean of the neighbors, then swap adjacent slots."""
    best: list[list[Slot]] = []
    fewest = None
    for mirrored in (False, True):
        for row in rows:
            row.sort(key=lambda slot: slot.order, reverse=mirrored)
            _number(row)
        for sweep in range(16):
            direction = 1 if sweep % 2 == 0 else -1
            for row in rows[::direction]:
                means = {id(slot): _mean_order(slot, slot.layer - direction) for slot in row}
                row.sort(key=lambda slot: means[id(slot)])
                _number(row)
            _swap(rows)
            crossings = sum(_crossings(row) for row in rows)
            if fewest is None or crossings < fewest:
                fewest, best = crossings, [list(row) for row in rows]
    for row, order in zip(rows, best, strict=True):
        row[:] = order
        _number(row)


def _number(row: Sequence[Slot]) -> None:
    for index, slot in enumerate(row):
        slot.order = float(index)


def _position(slot: Slot, port: float) -> float:
    """Its order, shifted a little by the port: that decides which of two edges of one box is the outer one."""
    return slot.order + (0.0 if slot.box is None else 0.4 * port / max(slot.width, 1.0))


def _mean_order(slot: Slot, layer: int) -> float:
    found = [_position(other, port) for other, _, port, _ in slot.near if other.layer == layer]
    return sum(found) / len(found) if found else slot.order


def _swap(rows: Sequence[list[Slot]]) -> None:
    for row in rows:
        for index in range(len(row) - 1):
            left, right = row[index], row[index + 1]
            if _crossings_of(right, left) < _crossings_of(left, right):
                row[index], row[index + 1] = right, left
                left.order, right.order = right.order, left.order


def _crossings_of(left: Slot, right: Slot) -> int:
    """How many times the edges of two neighbors cross if they stand in this order."""
    return sum(
        other.layer == another.layer and _position(other, port) > _position(another, other_port)
        for other, _, port, _ in left.near
        for another, _, other_port, _ in right.near
    )


def _crossings(row: Sequence[Slot]) -> int:
    """How many pairs of edges between this layer and the next cross."""
    ends = sorted(
        (_position(slot, own), _position(other, port))
        for slot in row
        for other, own, port, _ in slot.near
        if other.layer == slot.layer + 1
    )
    crossings = 0
    passed: list[float] = []
    for _, end in ends:
        crossings += len(passed) - bisect_right(passed, end)
        insort(passed, end)
    return crossings
