"""The option `--speak`: what every command that has it says of it."""

__all__ = ["SPEAK"]

SPEAK = (
    "A node that speaks, of a graph that doesn't say so itself. Repeatable. Default: the only node that calls a model."
)
