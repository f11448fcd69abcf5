"""The command line: `graph-voice`."""

import sys
import traceback
from collections.abc import Sequence

from graph_voice.cli.app import command, report
from graph_voice.errors import GraphVoiceError

__all__ = ["main"]

_DEBUG = "--debug"


def main(args: Sequence[str] | None = None) -> int:
    """Run `graph-voice` with these arguments (those of the process by default). Returns the exit code.

    0 is success, 1 a `GraphVoiceError` (its message goes to stderr, with `--debug` its traceback too), 2 wrong
    usage, 130 Ctrl-C. Any other exception is a bug and is not caught.
    """
    arguments = list(sys.argv[1:] if args is None else args)
    # `--debug` counts anywhere: users often add it at the end of a command.
    options = arguments[: arguments.index("--")] if "--" in arguments else arguments
    debug = _DEBUG in options
    if debug:
        arguments.remove(_DEBUG)
    try:
        command()(args=arguments, prog_name="graph-voice")
    except GraphVoiceError as error:
        if debug:
            traceback.print_exc()
        else:
            report(str(error))
        return 1
    except SystemExit as end:
        if isinstance(end.code, str):
            report(end.code)
            return 1
        return end.code or 0
    return 0
