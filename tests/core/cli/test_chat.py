"""`graph-voice chat`: what is printed and when, what is remembered of it, and how it ends."""

import asyncio
import io
import os
import pty
import re
import shlex
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator, Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import AIMessage
from langgraph.types import interrupt
from pydantic import BaseModel, SecretStr
from rich.console import Console

from graph_voice import Agent, Conversation, Handoff, RunContext, create_voice_graph, function_tool
from graph_voice.cli import main
from graph_voice.cli.chat_loop import Chat
from graph_voice.cli.chat_screen import Screen
from graph_voice.testing import ScriptedModel, call, fail, hang, say
from graph_voice.testing.invariants import check_invariants

pytestmark = pytest.mark.virtual_clock


class Caller(BaseModel):
    name: str | None = None
    card: SecretStr | None = None


class Talk:
    """A chat that a test drives: a script of lines and waits in, what is on the screen out."""

    def __init__(self, graph: Any, *, prompts: bool = True, timings: bool = False, **options: Any) -> None:
        self.file = io.StringIO()
        console = Console(file=self.file, force_terminal=options.pop("colours", False), highlight=False, width=80)
        self.conversation: Conversation[Any] = Conversation(graph, **options)
        speakers = [name for name, node in self.conversation.call.roles.nodes.items() if node.speaks]
        self.chat = Chat(self.conversation, Screen(console, speakers, prompts=prompts), timings=timings)

    @property
    def shown(self) -> str:
        return self.file.getvalue()

    async def run(self, *script: str | float | Callable[[], None]) -> int:
        """Type the lines. A line is read when the chat asks for it; before that, numbers are seconds that pass since
        the chat began, and functions are called then."""
        lines = [step for step in script if isinstance(step, str)]
        loop = asyncio.get_running_loop()
        began = loop.time()
        at = 0.0
        for step in script:
            if isinstance(step, float):
                at = step
            elif not isinstance(step, str):
                loop.call_at(began + at, step)

        async def typed() -> AsyncIterator[str]:
            for line in lines:
                yield line

        return await self.chat.run(typed())


def one(script: Any, **agent: Any) -> Any:
    return create_voice_graph(
        [Agent("desk", instructions="Help.", **agent)], userdata=Caller, llm=ScriptedModel(script, per_token=1.0)
    )


# ---- words


async def test_words_are_printed_as_they_come_not_after_the_turn() -> None:
    talk = Talk(one(["One two three."]))
    seen: list[str] = []
    await talk.run("Count.", 1.5, lambda: seen.append(talk.shown), 2.5, lambda: seen.append(talk.shown))
    assert seen == ["you: desk: One two", "you: desk: One two three."]


async def test_a_greeting_comes_first_when_the_start_agent_has_one() -> None:
    model = ScriptedModel(["Welcome."])
    greeting = create_voice_graph([Agent("desk", instructions="Help.", on_enter="Greet.")], llm=model)
    talk = Talk(greeting)
    assert await talk.run() == 0
    assert talk.shown == "desk: Welcome.\nyou: \n"
    silent = Talk(one([]))
    assert await silent.run() == 0
    assert silent.shown == "you: \n"


async def test_tools_lines_and_handoffs_are_shown_where_they_happen() -> None:
    @function_tool
    async def look_up(ctx: RunContext[Caller], id: int, note: str) -> str:
        """Look up."""
        await ctx.say("One moment.")
        return "blue\ngreen"

    model = ScriptedModel(
        {
            "desk": [say("Let me see.", call("look_up", {"id": 3, "note": "ü"})), call("transfer_to_billing")],
            "billing": ["Billing here."],
        }
    )
    desk = Agent(
        "desk", instructions="Help.", tools=[look_up], handoffs=[Handoff("billing", "For bills.", say="Bye now.")]
    )
    talk = Talk(create_voice_graph([desk, Agent("billing", instructions="Bill.")], llm=model), prompts=False)
    assert await talk.run("Hello.") == 0
    assert talk.shown.splitlines() == [
        "you: Hello.",
        "desk: Let me see.",
        '  look_up(id=3, note="ü")',
        "desk: One moment.",
        "  look_up = blue",
        "    green",
        "  transfer_to_billing()",
        "desk: Bye now.",
        "  transfer_to_billing = Transferring to billing.",
        "  desk -> billing",
        "billing: Billing here.",
    ]
    assert talk.conversation.active_agent == "billing"
    check_invariants(talk.conversation, said=["Hello."])


async def test_each_agent_has_a_colour_on_a_terminal_and_none_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    def graph() -> Any:
        model = ScriptedModel({"desk": [call("transfer_to_billing")], "billing": ["Here."]})
        desk = Agent("desk", instructions="Help.", handoffs=[Handoff("billing", "For bills.", say="Bye.")])
        return create_voice_graph([desk, Agent("billing", instructions="Bill.")], llm=model)

    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    coloured = Talk(graph(), colours=True)
    await coloured.run("Hello.")
    assert "\x1b[36mBye.\x1b[0m" in coloured.shown
    assert "\x1b[35mHere.\x1b[0m" in coloured.shown
    plain = Talk(graph())
    await plain.run("Hello.")
    assert "\x1b" not in plain.shown
    monkeypatch.setenv("NO_COLOR", "1")
    asked = Talk(graph(), colours=True)
    await asked.run("Hello.")
    assert "\x1b[36m" not in asked.shown


async def test_what_a_model_says_can_t_move_the_cursor_or_be_markup() -> None:
    talk = Talk(one(["[bold]a[/bold] \x1b[2J\x07b"]))
    await talk.run("Hello.")
    assert "desk: [bold]a[/bold] [2Jb\n" in talk.shown


async def test_a_turn_s_times_and_tokens_are_told() -> None:
    talk = Talk(one([say("One two three.", usage=(120, 34), first_token=0.5)]), timings=True)
    await talk.run("Count.")
    # Three words and the piece with the usage come a second apart.
    assert "  0.50 s to the first word, 3.50 s in all, 120 tokens in, 34 out\n" in talk.shown


async def test_a_turn_without_words_has_no_first_one_and_unknown_tokens_are_left_out() -> None:
    class Quiet(Agent):
        name = "desk"
        instructions = "Help."

        async def on_enter(self, ctx: RunContext[Caller]) -> None:
            pass

    talk = Talk(create_voice_graph([Quiet()], userdata=Caller, llm=ScriptedModel([])), timings=True)
    await talk.run()
    assert talk.shown.startswith("  0.00 s in all\n")


# ---- Ctrl-C


async def test_ctrl_c_during_an_answer_cuts_it_where_the_screen_is_and_the_chat_goes_on() -> None:
    talk = Talk(one(["One two three four five.", "Yes?"]))
    assert await talk.run("Count.", 2.5, talk.chat.interrupt, "Stop.") == 0
    assert talk.shown == "you: desk: One two three\n  (interrupted)\nyou: desk: Yes?\nyou: \n"
    remembered = [m.text for m in talk.conversation.messages]
    assert remembered == ["Count.", "One two three", "Stop.", "Yes?"]
    check_invariants(talk.conversation, heard=["One two three", "Yes?"], said=["Count.", "Stop."], current_agent="desk")


async def test_words_that_come_after_ctrl_c_are_neither_shown_nor_remembered() -> None:
    @function_tool
    async def look_up(ctx: RunContext[Caller]) -> str:
        """Look up."""
        talk.chat.interrupt()
        await ctx.say("Too late.")
        return "blue"

    talk = Talk(one([call("look_up"), "Yes?"], tools=[look_up]))
    assert await talk.run("Look.", "Well?") == 0
    assert "look_up = blue" in talk.shown
    assert "Too late." not in talk.shown
    check_invariants(talk.conversation, heard=["Yes?"], said=["Look.", "Well?"])


async def test_a_running_tool_ends_after_ctrl_c_and_a_second_one_does_not_wait_for_it() -> None:
    ended: list[float] = []

    @function_tool
    async def slow() -> str:
        """Be slow."""
        await asyncio.sleep(60)
        ended.append(asyncio.get_running_loop().time())
        return "done"

    talk = Talk(one([call("slow"), "Hello again."], tools=[slow]))
    seen: list[str] = []
    code = await talk.run(
        "Go.", 10.0, talk.chat.interrupt, 20.0, talk.chat.interrupt, 25.0, lambda: seen.append(talk.shown), "Hello."
    )
    assert code == 0
    assert "desk: Hello again." in seen[0]
    assert len(ended) == 1
    assert talk.shown.count("(interrupted)") == 1
    check_invariants(talk.conversation, said=["Go.", "Hello."])


async def test_what_is_not_to_be_interrupted_is_cut_by_the_second_ctrl_c_only() -> None:
    @function_tool
    async def pay(ctx: RunContext[Caller]) -> str:
        """Pay."""
        ctx.disallow_interruptions()
        await asyncio.sleep(60)
        return "paid"

    talk = Talk(one([call("pay"), "Paid."], tools=[pay]))
    assert await talk.run("Pay.", 10.0, talk.chat.interrupt) == 0
    assert "can't be interrupted now" in talk.shown
    assert "pay = paid\ndesk: Paid." in talk.shown
    impatient = Talk(one([call("pay"), "Paid."], tools=[pay]))
    assert await impatient.run("Pay.", 10.0, impatient.chat.interrupt, 11.0, impatient.chat.interrupt) == 0
    assert "desk: Paid." not in impatient.shown
    check_invariants(impatient.conversation, said=["Pay."])


async def test_ctrl_c_at_the_prompt_ends_with_130_and_the_end_of_the_input_with_0() -> None:
    talk = Talk(one(["Yes?"]))

    async def nobody() -> AsyncIterator[str]:
        await asyncio.Event().wait()
        yield ""

    asyncio.get_running_loop().call_later(5, talk.chat.interrupt)
    assert await talk.chat.run(nobody()) == 130
    assert talk.shown == "you: \n"


async def test_ctrl_c_in_a_script_ends_it_also_during_an_answer() -> None:
    talk = Talk(one([hang(2, text="One two three.")]), prompts=False)
    assert await talk.run("Count.", 5.0, talk.chat.interrupt, "Next.") == 130
    assert talk.shown == "you: Count.\ndesk: One two\n"
    assert [m.text for m in talk.conversation.messages] == ["Count.", "One two"]


async def test_somebody_else_s_cancellation_is_not_taken_for_ctrl_c() -> None:
    talk = Talk(one([hang()]))
    task = asyncio.create_task(talk.run("Count."))
    asyncio.get_running_loop().call_later(5, task.cancel)
    with pytest.raises(asyncio.CancelledError):
        await task


# ---- questions, ends, errors


async def test_a_question_of_the_graph_is_printed_and_the_next_line_answers_it() -> None:
    @function_tool
    async def pay() -> str:
        """Pay."""
        return f"answered {interrupt('Shall I pay?')}"

    talk = Talk(one([call("pay"), "Done."], tools=[pay]), prompts=False)
    await talk.run("Pay it.", "/state", "Yes, do.")
    assert talk.shown.splitlines() == [
        "you: Pay it.",
        "  pay()",
        "desk: Shall I pay?",
        "active agent: desk",
        "userdata: {}",
        "handoffs: none",
        "waits for an answer: Shall I pay?",
        "you: Yes, do.",
        "  pay = answered Yes, do.",
        "desk: Done.",
    ]
    check_invariants(talk.conversation, said=["Pay it.", "Yes, do."])


async def test_an_agent_that_ends_the_call_ends_the_chat() -> None:
    @function_tool
    async def hang_up(ctx: RunContext[Caller]) -> str:
        """Hang up."""
        ctx.end_call()
        return "ok"

    talk = Talk(one([call("hang_up"), "Goodbye."], tools=[hang_up]), prompts=False)
    assert await talk.run("Bye.", "Are you there?") == 0
    assert talk.shown.endswith("desk: Goodbye.\nThe agent ended the call.\n")


async def test_a_model_s_error_is_told_once_with_the_place_and_the_chat_goes_on() -> None:
    talk = Talk(one([fail(ValueError("no such model")), "Better now."]), prompts=False)
    assert await talk.run("Hello.", "Again.") == 0
    assert talk.shown.count("no such model") == 1
    assert "error: agent desk failed: ValueError: no such model (" in talk.shown
    assert talk.shown.endswith("desk: Better now.\n")


async def test_a_failed_turn_is_told_where_nothing_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("CRITICAL", logger="graph_voice")
    talk = Talk(one([fail(ValueError("no such model"))]), prompts=False)
    await talk.run("Hello.")
    assert talk.shown.count("error: agent desk failed: ValueError: no such model (") == 1


async def test_a_tool_s_exception_is_told_though_the_model_is_not_told() -> None:
    @function_tool
    async def look_up() -> str:
        """Look up."""
        raise KeyError("order 7")

    talk = Talk(one([call("look_up"), "Sorry."], tools=[look_up]), prompts=False)
    await talk.run("Hello.")
    assert "error: tool look_up failed: KeyError: 'order 7' (" in talk.shown
    assert f"{Path(__file__).name}:" in talk.shown


# ---- on request


async def test_state_shows_no_secret_and_history_shows_what_was_heard() -> None:
    talk = Talk(
        one(["Hello Ada."]),
        prompts=False,
        userdata=Caller(name="Ada", card=SecretStr("4111")),
        messages=[AIMessage("Hi")],
    )
    await talk.run("Hello.", "/state", "/history")
    assert talk.shown.splitlines() == [
        "you: Hello.",
        "desk: Hello Ada.",
        "active agent: desk",
        'userdata: {"name": "Ada"}',
        "handoffs: none",
        "agent: Hi",
        "you: Hello.",
        "desk: Hello Ada.",
    ]


async def test_the_drawing_marks_who_has_the_floor_and_help_lists_every_command() -> None:
    talk = Talk(one([]))
    await talk.run("/graph", "/help", "/state", "/history", "/unknown", "  ")
    assert "| desk * |" in talk.shown
    for name in ("/state", "/history", "/graph", "/help", "/quit"):
        assert f"{name} " in talk.shown
    assert "There is no command /unknown; /help lists them." in talk.shown
    assert talk.conversation.messages == []


async def test_quit_ends_before_the_next_line() -> None:
    talk = Talk(one(["Never."]), prompts=False)
    assert await talk.run("/quit", "Hello.") == 0
    assert talk.shown == ""


# ---- the command itself

_PROGRAM = "import sys; from graph_voice.cli import main; sys.exit(main())"

GRAPH = """
from pydantic import BaseModel
from graph_voice import Agent, create_voice_graph
from graph_voice.testing import ScriptedModel

class Caller(BaseModel):
    name: str
    age: int = 0

print("loading")
model = ScriptedModel(lambda messages: f"{messages[0].text} You said {messages[-1].text}")
agent = Agent("desk", instructions=lambda caller: f"Hello {caller.name}.")
graph = create_voice_graph([agent], userdata=Caller, llm=model)
unfit = create_voice_graph([agent], userdata=Caller)
"""


@pytest.fixture
def graph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    for name in ("OPENAI_API_KEY", "GRAPH_VOICE_LLM"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "agent.py").write_text(GRAPH)
    return str(tmp_path / "agent.py")


def test_of_a_pipe_both_sides_are_written_and_nothing_else(graph: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, "chat", graph, "--userdata", '{"name": "Zoë"}'],
        input="Hello.\r\nIs it ünïcode?\n\n/state\nNo end".encode(),
        capture_output=True,
        timeout=600,
        env={**os.environ, "PYTHONIOENCODING": "utf-8"},
        check=False,
    )
    assert (done.returncode, done.stderr.decode()) == (0, "loading\n")
    assert done.stdout.decode() == textwrap.dedent("""\
        you: Hello.
        desk: Hello Zoë. You said Hello.
        you: Is it ünïcode?
        desk: Hello Zoë. You said Is it ünïcode?
        active agent: desk
        userdata: {"name": "Zoë", "age": 0}
        handoffs: none
        you: No end
        desk: Hello Zoë. You said No end
        """)


def test_the_keys_of_a_terminal_cut_in_on_an_answer_and_end_at_the_prompt(tmp_path: Path) -> None:
    (tmp_path / "agent.py").write_text(
        "from graph_voice import Agent, create_voice_graph\n"
        "from graph_voice.testing import ScriptedModel, hang\n"
        "model = ScriptedModel([hang(2, text='One two three.')])\n"
        "graph = create_voice_graph([Agent('desk', instructions='Help.')], llm=model)\n"
    )
    with Terminal("chat", str(tmp_path / "agent.py")) as terminal:
        terminal.until("you: ")
        terminal.type("Count.\n")
        terminal.until("One two")
        terminal.type("\x03")
        terminal.until("(interrupted)")
        terminal.until("you: ")
        terminal.type("\x03")
        assert terminal.ended() == 130, terminal.seen
        assert "Traceback" not in terminal.seen


class Terminal:
    """`graph-voice` on a terminal of its own."""

    def __init__(self, *arguments: str) -> None:
        ours, theirs = pty.openpty()
        self._process = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM, *arguments],
            # The keys of a terminal are signals to the session that it controls.
            preexec_fn=lambda: os.login_tty(theirs),
            env={**os.environ, "NO_COLOR": "1", "TERM": "dumb"},
        )
        os.close(theirs)
        self._ours = ours
        self._place = 0
        self.seen = ""

    def __enter__(self) -> "Terminal":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._ours)

    def type(self, text: str) -> None:
        os.write(self._ours, text.encode())

    def until(self, text: str) -> None:
        """Read on until this was written."""
        while (at := self.seen.find(text, self._place)) < 0:
            assert self._read(), f"{text!r} was never written: {self.seen}"
        self._place = at + len(text)

    def ended(self) -> int:
        while self._read():
            pass
        return self._process.wait()

    def _read(self) -> bool:
        try:
            piece = os.read(self._ours, 4096)
        except OSError:  # Linux's way to say that nobody has the other end any more
            return False
        self.seen += piece.decode()
        return bool(piece)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (None, ["--userdata is needed, Caller: name: Field required", '--userdata \'{"name": ..., "age": ...}\'']),
        ("{name}", ["--userdata is not JSON", '--userdata \'{"name": ..., "age": ...}\'']),
        ("3", ["--userdata is not an object"]),
        ('{"name": "Ada", "age": "x"}', ["--userdata does not fit, Caller: age: Input should be a valid integer"]),
    ],
)
def test_userdata_that_does_not_fit_is_refused_with_what_would(
    graph: str, given: str | None, told: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["chat", graph, *(["--userdata", given] if given is not None else [])]) == 1
    err = capsys.readouterr().err
    for part in told:
        assert part in err


def test_a_graph_without_userdata_refuses_the_option(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "plain.py").write_text(
        "from langgraph.graph import END, START, MessagesState, StateGraph\n"
        "graph = StateGraph(MessagesState).add_node('a', lambda s: {}).add_edge(START, 'a').add_edge('a', END)\n"
    )
    assert main(["chat", str(tmp_path / "plain.py"), "--userdata", "{}"]) == 1
    assert "this graph has no userdata" in capsys.readouterr().err


def test_without_any_model_the_fix_is_told(
    graph: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["chat", f"{graph}:unfit"]) == 1
    err = capsys.readouterr().err
    assert "pass --llm openai:gpt-4.1-mini (with OPENAI_API_KEY)" in err
    (tmp_path / "agent.examples.yaml").write_text("agents: {}")
    monkeypatch.setattr(metadata, "entry_points", lambda *, group: [])
    assert main(["chat", f"{graph}:unfit", "--llm", "offline"]) == 1
    assert 'pip install "graph-voice[offline]"' in capsys.readouterr().err


# ---- the docs

DOCS = Path(__file__).resolve().parents[3] / "docs" / "cli.md"


class _Offline(metadata.EntryPoint):
    """Stands for the model that the commands of the docs ask for."""

    def load(self) -> Any:
        return lambda examples, seed: ScriptedModel(lambda messages: f"From {examples.name}.")


def test_each_command_and_snippet_of_the_docs_runs(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    blocks = re.findall(r"^```(bash|python)\n(.*?)^```$", DOCS.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    entries = [_Offline(name="offline", value="", group="graph_voice.models")]
    real = metadata.entry_points
    monkeypatch.setattr(
        metadata, "entry_points", lambda *, group: entries if group == "graph_voice.models" else real(group=group)
    )
    monkeypatch.chdir(DOCS.parents[1])
    written = []
    for language, text in blocks:
        if language == "python":
            exec(compile(text, str(DOCS), "exec"), {})
            continue
        before, _, command = text.strip().rpartition(" | ")
        typed = tmp_path / "typed"
        typed.write_text(shlex.split(before)[1].replace("\\n", "\n") if before else "")
        with typed.open() as stdin:
            monkeypatch.setattr(sys, "stdin", stdin)
            assert main(shlex.split(command)[1:]) == 0
        written.append(capsys.readouterr().out)
    assert [name for name in ("chat", "check", "draw") if not any(f"graph-voice {name}" in b for _, b in blocks)] == []
    assert "customer_service: From customer_service.examples.yaml.\nactive agent: customer_service\n" in written[1]
