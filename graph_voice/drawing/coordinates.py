"""The horizontal position of each box and line in a layer, once their order is known."""

from collections.abc import Sequence

from graph_voice.drawing.boxes import Slot

BOX_GAP = 34.0
LINE_GAP = 16.0


def spread(rows: Sequence[list[Slot]]) -> None:
    """Straight edges, no overlap: each layer in turn moves as close as possible to the mean of its neighbors."""
    for row in rows:
        x = 0.0
        for left, slot in zip([None, *row], row, strict=False):
            x += _distance(left, slot) if left else 0.0
            slot.x = x
    for sweep in range(120):
        for row in rows if sweep % 2 == 0 else rows[::-1]:
            _place(row)


def straighten(rows: Sequence[list[Slot]], chains: Sequence[list[Slot]]) -> None:
    """Pull the slots that an edge passes into one line, as far as their neighbors leave room."""
    for chain in chains:
        run: list[Slot] = []
        low = high = 0.0
        for slot in chain[1:-1]:
            left, right = _room(slot, rows[slot.layer])
            if run and max(low, left) <= min(high, right):
                low, high = max(low, left), min(high, right)
            else:
                run, low, high = [], left, right
            run.append(slot)
            line = min(max(sum(passed.x for passed in run) / len(run), low), high)
            for passed in run:
                passed.x = line


def _room(slot: Slot, row: Sequence[Slot]) -> tuple[float, float]:
    index = int(slot.order)
    left = row[index - 1].x + _distance(row[index - 1], slot) if index else float("-inf")
    right = row[index + 1].x - _distance(slot, row[index + 1]) if index + 1 < len(row) else float("inf")
    return left, right


def _distance(left: Slot, right: Slot) -> float:
    gap = BOX_GAP if left.box and right.box else LINE_GAP
    return (left.width + right.width) / 2 + gap


def _place(row: Sequence[Slot]) -> None:
    """Least squares with minimum distances: neighbors that would overlap are moved as one block."""
    blocks: list[tuple[float, float, int]] = []  # (wanted place of the first, weight, how many)
    shift = 0.0
    shifts = []
    for left, slot in zip([None, *row], row, strict=False):
        shift += _distance(left, slot) if left else 0.0
        shifts.append(shift)
        weight = sum(near[3] for near in slot.near) or 0.001
        wanted = sum((other.x + port - own) * w for other, own, port, w in slot.near) / weight
        block = ((wanted if slot.near else slot.x) - shift, weight, 1)
        while blocks and blocks[-1][0] > block[0]:
            place, heft, count = blocks.pop()
            total = heft + block[1]
            block = ((place * heft + block[0] * block[1]) / total, total, count + block[2])
        blocks.append(block)
    places = [place for place, _, count in blocks for _ in range(count)]
    for slot, place, shift in zip(row, places, shifts, strict=True):
        slot.x = place + shift
