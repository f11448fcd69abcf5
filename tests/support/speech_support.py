"""What the tests with real speech have in common: the seed of the voices, and bounds for what depends on a machine."""

import os

SEED = int(os.environ.get("SPEECH_SEED", "0"))
"""Of the voices. Another one, `SPEECH_SEED=7 pytest -m speech`, is another way to say everything."""

ALIKE = 0.7
"""How much of a sentence a recogniser has to get right (`hearing.likeness`).

Measured with 14 sentences in four voices, 12 seeds, and the arithmetic of five processors: 0.82 at worst, 0.92 or more
in all but two of 392. Two different ones of these sentences: 0.46 at most.
"""

STUCK = 300.0
"""Seconds of real time after which what should have happened at once never will."""
