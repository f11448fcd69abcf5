"""How many examples a property gets whose examples are whole calls."""

import os

from hypothesis import settings

__all__ = ["examples"]

_ASKED = int(os.environ.get("GRAPH_VOICE_EXAMPLES", "0"))


def examples(usual: int) -> settings:
    """So many; a twentieth of `GRAPH_VOICE_EXAMPLES` if that is more: 500 in `make properties`."""
    return settings(max_examples=max(usual, _ASKED // 20))
