"""What a notebook shows of graphs and conversations, in a real IPython shell: offline, escaped, without secrets."""

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from IPython.core.interactiveshell import InteractiveShell
from langgraph.graph import END, START, MessagesState, StateGraph
from pydantic import BaseModel, SecretStr

import graph_voice
from graph_voice import Agent, Conversation, Handoff, RunContext, create_voice_graph, function_tool
from graph_voice.notebook_html import conversation_html
from graph_voice.testing import ScriptedModel, call, say

BAD = "<script>alert('x')</script>"


class Caller(BaseModel):
    name: str = "Ada"
    card: SecretStr = SecretStr("4111111111111111")


@function_tool
async def note(ctx: RunContext[Caller], text: str) -> str:
    """Note it."""
    ctx.userdata.name = text
    return f"noted {text}"


def graph(*replies: Any) -> Any:
    front = Agent("front", instructions="F.", tools=[note], handoffs=[Handoff("back", say="One moment.")])
    back = Agent("back", instructions="B.", handoffs=[Handoff("front")])
    return create_voice_graph([front, back], userdata=Caller, llm=ScriptedModel(list(replies)))


@pytest.fixture
def shell(monkeypatch: pytest.MonkeyPatch) -> Iterator[InteractiveShell]:
    def no_network(*args: Any) -> None:
        raise AssertionError("the drawing was asked of a web service")

    monkeypatch.setattr("langchain_core.runnables.graph_mermaid.draw_mermaid_png", no_network)
    monkeypatch.setattr("socket.socket.connect", no_network)
    shell = InteractiveShell.instance()
    shell.display_formatter.active_types = shell.display_formatter.format_types
    yield shell
    graph_voice.unload_ipython_extension(shell)
    InteractiveShell.clear_instance()


def shown(shell: InteractiveShell, value: Any) -> dict[str, Any]:
    bundle, _ = shell.display_formatter.format(value)
    return dict(bundle)


@pytest.mark.parametrize("compiled", [False, True])
def test_a_graph_is_an_svg_that_was_drawn_here(shell: InteractiveShell, compiled: bool) -> None:
    shell.run_line_magic("load_ext", "graph_voice")
    made = graph()
    bundle = shown(shell, made.compile() if compiled else made)
    assert set(bundle) == {"image/svg+xml", "text/plain"}
    assert 'data-label="transfer_to_back"' in bundle["image/svg+xml"]
    assert "| front |" in bundle["text/plain"]


def test_so_is_a_graph_that_was_not_made_here(shell: InteractiveShell) -> None:
    shell.run_line_magic("load_ext", "graph_voice")
    other = (
        StateGraph(MessagesState).add_node("plain", lambda state: {}).add_edge(START, "plain").add_edge("plain", END)
    )
    assert "plain" in shown(shell, other.compile())["image/svg+xml"]


def test_a_graph_that_cant_be_drawn_says_why(shell: InteractiveShell) -> None:
    shell.run_line_magic("load_ext", "graph_voice")
    made = create_voice_graph([Agent("a", instructions="A.", handoffs=[Handoff("nobody")])], llm=ScriptedModel())
    bundle = shown(shell, made)
    assert set(bundle) == {"text/plain"}
    assert 'hands off to "nobody"' in bundle["text/plain"]


def test_somebody_elses_formatter_stays_and_unloading_gives_back_what_was(shell: InteractiveShell) -> None:
    formatter = shell.display_formatter.mimebundle_formatter
    formatter.for_type(StateGraph, lambda graph: {"text/plain": "theirs"})
    shell.run_line_magic("load_ext", "graph_voice")
    assert shown(shell, graph()) == {"text/plain": "theirs"}
    formatter.pop(StateGraph)
    shell.run_line_magic("unload_ext", "graph_voice")
    assert "image/svg+xml" not in shown(shell, graph())


@pytest.mark.parametrize(
    ("before", "drawn"), [("", True), ("graph_voice.unload_ipython_extension(get_ipython())", False)]
)
def test_importing_graph_voice_in_a_shell_is_enough_and_imports_no_langgraph(before: str, drawn: bool) -> None:
    program = f"""
import sys
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
cell = '''
import graph_voice, sys
early = "langgraph" in sys.modules
{before}
'''
shell.run_cell(cell).raise_error()
print(shell.user_ns["early"], ("langgraph.graph.state", "StateGraph")
      in shell.display_formatter.mimebundle_formatter.deferred_printers)
"""
    run = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=False)
    assert run.stdout.split() == ["False", str(drawn)], run.stderr


def test_outside_of_ipython_nothing_is_imported() -> None:
    program = "import graph_voice, sys; print('IPython' in sys.modules, 'graph_voice.notebook' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["False", "False"]


def test_so_is_a_conversation_until_the_extension_is_unloaded(shell: InteractiveShell) -> None:
    shell.run_line_magic("load_ext", "graph_voice")
    conversation: Conversation[Caller] = Conversation(graph(), thread_id="call-1")
    bundle = shown(shell, conversation)
    assert bundle == {"text/html": conversation_html(conversation), "text/plain": repr(conversation)}
    shell.run_line_magic("unload_ext", "graph_voice")
    assert set(shown(shell, conversation)) == {"text/plain"}


async def test_a_conversation_shows_what_was_said_done_and_known() -> None:
    made = graph(say("Moment.", call("note", {"text": "Bob"})), say(call("transfer_to_back")), "Back here.")
    conversation: Conversation[Caller] = Conversation(made, thread_id="call-1")
    await conversation.run("Hello, I am Bob.")
    html = conversation_html(conversation)
    for part in (
        "Hello, I am Bob.",
        "Moment.",
        "= noted Bob",
        "Back here.",
        'name: "Bob"',
        "data:image/svg+xml;base64,",
    ):
        assert part in html.replace("&quot;", '"')
    assert html.index("Moment.") < html.index("= noted Bob") < html.index("Back here.")
    assert html.count("\N{RIGHTWARDS ARROW}") == 2, "the handoff, where it happened and in the list"
    assert repr(conversation) == "<Conversation 'call-1': back is active, 6 messages, 1 handoff>"


async def test_secrets_are_not_shown_and_no_words_become_markup() -> None:
    conversation: Conversation[Caller] = Conversation(
        graph(say(BAD, call("note", {"text": BAD})), BAD), userdata=Caller(name=BAD)
    )
    await conversation.run(BAD)
    html = conversation_html(conversation)
    assert "4111" not in html
    assert "card" not in html
    assert "<script" not in html
    assert html.count("&lt;script&gt;") >= 5


async def test_an_answer_is_shown_as_it_was_heard_and_where_it_was_cut() -> None:
    conversation: Conversation[Caller] = Conversation(graph("One two three four."))
    turn = conversation.turn("Count.")
    turn.commit()
    async for event in turn:
        if isinstance(event, graph_voice.events.Text):
            turn.heard(event.message_id, "One two")
            turn.interrupt()
            break
    turn.close()
    await asyncio.sleep(0)
    html = conversation_html(conversation)
    assert "One two <span" in html
    assert "cut off" in html
    assert "three" not in html


def test_a_conversation_in_which_nothing_was_said() -> None:
    conversation: Conversation[Caller] = Conversation(graph(), thread_id="call-1")
    assert "Nothing was said yet." in conversation_html(conversation)
    assert repr(conversation) == "<Conversation 'call-1': front is active, 0 messages, 0 handoffs>"


async def test_a_handoff_from_outside_is_listed() -> None:
    conversation: Conversation[Caller] = Conversation(graph())
    await conversation.update_agent("back")
    assert conversation_html(conversation).count("\N{RIGHTWARDS ARROW}") == 1
