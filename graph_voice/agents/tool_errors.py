"""What a tool raises to say something to the model, or to want no reply."""

__all__ = ["StopResponse", "TaskFailed", "ToolError"]


class ToolError(Exception):
    """Raised by a tool to tell the model what went wrong: the model reads this message. LiveKit's `ToolError`."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class StopResponse(Exception):  # LiveKit's name
    """Raised by a tool to end the turn without a reply, unless another tool call of its batch needs one. LiveKit's
    `StopResponse`."""


class TaskFailed(ToolError):  # it is told to the model, and LiveKit names no such error
    """`ctx.run_task` raises it when the task was given up (`ctx.fail`, its `give_up` tool). A tool that does not catch
    it hands the reason to the model."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
