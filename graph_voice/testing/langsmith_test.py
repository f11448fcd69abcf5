"""What a scripted call tells LangSmith's pytest plugin, in a test that it tracks (`@pytest.mark.langsmith`)."""

import contextlib
import sys
from typing import TYPE_CHECKING, Any

from graph_voice.secrets.values import masked, secret_texts
from graph_voice.userdata.channel import public_fields

if TYPE_CHECKING:
    from graph_voice.testing.scripted_call import Call

__all__ = ["log_to_langsmith"]


def log_to_langsmith(call: "Call[Any]") -> None:
    """Log what the caller said as inputs, and what came of it as outputs; nothing in a test that is not tracked.

    The userdata's secrets are left out, also where somebody said them or a model wrote them into a tool's arguments.
    """
    tracked = sys.modules.get("langsmith.testing")
    if tracked is None:
        return
    userdata = call.conversation.value("userdata")
    secrets = secret_texts(userdata)
    outputs = {
        "transcript": call.transcript,
        "heard": call.heard,
        "active_agent": call.active_agent,
        "userdata": public_fields(userdata),
        "trajectory": call.trajectory(),
    }
    with contextlib.suppress(ValueError):  # LangSmith's way to say that it does not track this test
        tracked.log_inputs(_without(secrets, {"said": list(call.said)}))
        tracked.log_outputs(_without(secrets, outputs))


def _without(secrets: list[str], value: Any) -> Any:
    match value:
        case str():
            return masked(value, secrets)
        case dict():
            return {key: _without(secrets, item) for key, item in value.items()}
        case list():
            return [_without(secrets, item) for item in value]
    return value
