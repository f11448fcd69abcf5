"""The states of a turn, which exclude one another."""

from enum import Enum

__all__ = ["TurnState"]


class TurnState(Enum):
    """How far the front end has come with a turn.

    ```
                  +--commit()--> COMMITTED --close()--> CLOSED
                  |
    SPECULATIVE --+
                  |
                  +--discard(), close()--> DISCARDED
    ```
    """

    SPECULATIVE = "speculative"
    """The user turn may not have happened. Models may stream; nothing acts, and nothing is remembered."""
    COMMITTED = "committed"
    """It really happened, and the front end plays it."""
    CLOSED = "closed"
    """It happened, and the front end is done with it. Tools that had begun may still run."""
    DISCARDED = "discarded"
    """It did not happen, and leaves nothing behind."""

    @property
    def happened(self) -> bool:
        """Whether the user turn really happened."""
        return self in (TurnState.COMMITTED, TurnState.CLOSED)

    @property
    def is_over(self) -> bool:
        """Whether the front end is done with it."""
        return self in (TurnState.CLOSED, TurnState.DISCARDED)
