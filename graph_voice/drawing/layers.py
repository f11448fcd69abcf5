"""Where boxes and labeled edges go: a layered layout (Sugiyama's method), without any graph library.

A label gets its own place between two layers, just like a box, so it can't overlap a box or another label.
An edge bends only in the free space between the layers, so it crosses no box and no other label. Lengths are
in pixels, y grows downwards. Meant for drawings of a few dozen nodes.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import pairwise

from graph_voice.drawing.boxes import Arrangement, Box, Link, Port, Route, Slot
from graph_voice.drawing.coordinates import spread, straighten
from graph_voice.drawing.crossings import order

LAYER_GAP = 14.0
WIDEST_LAYER_GAP = 50.0
PORT_GAP = 18.0
STRAIGHT = 12.0
"""The minimum length of an edge's straight piece at a box: room for the head of an arrow."""


def arrange(boxes: Sequence[Box], links: Sequence[Link]) -> Arrangement:
    """Place the boxes in layers, the first box on top, and route the links between them."""
    layers_of = _layers([box.key for box in boxes], links)
    slots = {box.key: Slot(2 * layers_of[box.key], box.width, box.height + 2 * STRAIGHT, box) for box in boxes}
    chains = [_chain(link, slots, chosen) for link, chosen in zip(links, _label_layers(links, layers_of), strict=True)]
    layers: dict[int, list[Slot]] = defaultdict(list)
    for slot in slots.values():
        layers[slot.layer].append(slot)
    for chain in chains:
        for slot in chain[1:-1]:
            layers[slot.layer].append(slot)
    rows = [layers[index] for index in range(max(layers, default=-1) + 1)]
    order(rows)
    spread(rows)
    straighten(rows, chains)
    return _finish(rows, slots, links, chains)


def _layers(keys: Sequence[str], links: Sequence[Link]) -> dict[str, int]:
    """The layer of each box: below everything that leads to it, without edges back to an earlier box."""
    place = {key: index for index, key in enumerate(_breadth_first(keys, links))}
    before: dict[str, list[str]] = defaultdict(list)
    for link in links:
        upper, lower = sorted((link.source, link.target), key=place.__getitem__)
        before[lower].append(upper)
    layers: dict[str, int] = {}
    for key in sorted(keys, key=place.__getitem__):
        layers[key] = max((layers[upper] + 1 for upper in before[key]), default=0)
    for key in keys:  # what nothing leads to stands right above what it leads to
        below = [layers[link.target] for link in links if link.source == key]
        if not before[key] and below:
            layers[key] = max(0, min(below) - 1)
    return layers


def _breadth_first(keys: Sequence[str], links: Sequence[Link]) -> list[str]:
    reached: list[str] = []
    for root in keys:
        queue = [root]
        while queue:
            key = queue.pop(0)
            if key not in reached:
                reached.append(key)
                queue += [link.target for link in links if link.source == key]
    return reached


def _label_layers(links: Sequence[Link], layers: Mapping[str, int]) -> list[int | None]:
    """The half layer for each label: the least crowded one on the edge's path, or else the middle one."""
    load: dict[int, float] = defaultdict(float)
    chosen: dict[int, int] = {}
    spans = {
        index: sorted((2 * layers[link.source], 2 * layers[link.target]))
        for index, link in enumerate(links)
        if link.label_width
    }
    for index in sorted(spans, key=lambda index: spans[index][1] - spans[index][0]):
        top, bottom = spans[index]
        halves = range(top + 1, bottom, 2)
        best = min(halves, key=lambda half: (load[half], abs(half - (top + bottom) / 2)))
        load[best] += links[index].label_width
        chosen[index] = best
    return [chosen.get(index) for index in range(len(links))]


def _chain(link: Link, slots: Mapping[str, Slot], label_layer: int | None) -> list[Slot]:
    """The slots that an edge passes, from top to bottom, joined to one another."""
    upper, lower = sorted((slots[link.source], slots[link.target]), key=lambda slot: slot.layer)
    passed = []
    for layer in range(upper.layer + 1, lower.layer):
        if layer == label_layer:
            passed.append(Slot(layer, link.label_width, link.label_height))
        else:
            passed.append(Slot(layer, 2.0, 0.0))
    chain = [upper, *passed, lower]
    for above, below in pairwise(chain):
        # Straight between the boxes matters most, then straight out of them.
        weight = {0: 8.0, 1: 2.0, 2: 1.0}[(above.box is not None) + (below.box is not None)]
        own, other = _offset(above, link), _offset(below, link)
        above.near.append((below, own, other, weight))
        below.near.append((above, other, own, weight))
    return chain


def _offset(slot: Slot, link: Link) -> float:
    return 0.0 if slot.box is None else link.port(slot.box).center


def _finish(
    rows: Sequence[list[Slot]],
    slots: Mapping[str, Slot],
    links: Sequence[Link],
    chains: Sequence[list[Slot]],
) -> Arrangement:
    left = min((slot.x - slot.width / 2 for row in rows for slot in row), default=0.0)
    for row in rows:
        for slot in row:
            slot.x -= left
    bands = _bands(rows)
    ports = _ports(slots, links, chains)
    routes = []
    for index, (link, chain) in enumerate(zip(links, chains, strict=True)):
        points: list[tuple[float, float]] = []
        label = None
        for slot in chain:
            top, bottom = bands[slot.layer]
            if slot.box is None and top == bottom and slot.layer % 2:
                continue  # no label between these two layers: the line bends once, not twice
            if slot.box is None:
                points += [(slot.x, top), (slot.x, bottom)]
                if link.label_width and slot.width == link.label_width and slot.height == link.label_height:
                    label = (slot.x, (top + bottom) / 2)
                continue
            x = ports[index, slot.box.key]
            port = link.port(slot.box)
            middle = (top + bottom) / 2
            if slot is chain[0]:
                points += [(x, middle + port.height / 2), (x, bottom)]
            else:
                points += [(x, top), (x, middle - port.height / 2)]
        if slots[link.source].layer > slots[link.target].layer:
            points.reverse()
        routes.append(Route(tuple(points), label))
    centers = {key: (slot.x, sum(bands[slot.layer]) / 2) for key, slot in slots.items()}
    width = max((slot.x + slot.width / 2 for row in rows for slot in row), default=0.0)
    return Arrangement(centers, tuple(routes), width, bands[-1][1] if bands else 0.0)


def _bands(rows: Sequence[list[Slot]]) -> list[tuple[float, float]]:
    """Top and bottom of each layer. The further an edge moves sideways, the more room it has."""
    bands: list[tuple[float, float]] = []
    y = 0.0
    for row in rows:
        height = max((slot.height for slot in row), default=0.0)
        bands.append((y, y + height))
        aside = [
            abs(slot.x + own - other.x - port)
            for slot in row
            for other, own, port, _ in slot.near
            if other.layer == slot.layer + 1
        ]
        y += height + min(WIDEST_LAYER_GAP, LAYER_GAP + 0.1 * max(aside, default=0.0)) * (1.0 if height else 0.5)
    return bands


def _ports(
    slots: Mapping[str, Slot], links: Sequence[Link], chains: Sequence[list[Slot]]
) -> dict[tuple[int, str], float]:
    """Where on its box each edge begins or ends, from left to right in the order of the other ends."""
    ends: dict[tuple[str, bool, Port], list[tuple[float, int]]] = defaultdict(list)
    for index, (link, chain) in enumerate(zip(links, chains, strict=True)):
        for box_slot, next_slot in ((chain[0], chain[1]), (chain[-1], chain[-2])):
            box = box_slot.box
            assert box is not None
            port = link.port(box)
            ends[box.key, box_slot is chain[0], port].append((next_slot.x, index))
    placed = {}
    for (key, _, port), found in ends.items():
        gap = min(PORT_GAP, port.width / len(found))
        for number, (_, index) in enumerate(sorted(found)):
            placed[index, key] = slots[key].x + port.center + (number - (len(found) - 1) / 2) * gap
    return placed
