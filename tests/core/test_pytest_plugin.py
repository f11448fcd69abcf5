"""What pytest gets with graph_voice."""

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from agentevals.trajectory.match import create_trajectory_match_evaluator
from provider_support import OpenAI
from pydantic import BaseModel, SecretStr

from graph_voice import Agent, RunContext, create_voice_graph, function_tool
from graph_voice.testing import Call, ScriptedModel, call

ROOT = Path(__file__).parents[2]
GRAPH = """
import pytest
from graph_voice import Agent, create_voice_graph
from graph_voice.testing import Call, ScriptedModel

graph = create_voice_graph([Agent("desk", instructions="You take bookings.")])
"""


@pytest.fixture
def run(pytester: pytest.Pytester) -> Any:
    pytester.makepyprojecttoml("[tool.pytest.ini_options]\nasyncio_mode = 'auto'\n")

    def run(test: str, *arguments: str) -> pytest.RunResult:
        pytester.makepyfile(GRAPH + test)
        return pytester.runpytest_subprocess("-p", "no:cacheprovider", *arguments)

    return run


def test_a_test_that_fails_shows_its_calls(run: Any) -> None:
    result = run(
        """
@pytest.mark.virtual_clock
async def test_one():
    async with Call(graph, llm=ScriptedModel(["Sure."])) as phone:
        await phone.says("Hi.")
        assert phone.active_agent == "billing"

@pytest.mark.virtual_clock
async def test_two():
    async with Call(graph, llm=ScriptedModel(["Fine."])) as phone:
        await phone.says("Hello.")
"""
    )
    result.assert_outcomes(failed=1, passed=1)
    result.stdout.fnmatch_lines(["*graph_voice calls*", "*caller says: Hi.", "*desk: Sure."])
    result.stdout.no_fnmatch_line("*caller says: Hello.*")


def test_a_call_of_the_fixture_is_closed_and_checked(run: Any) -> None:
    result = run(
        """
@pytest.mark.virtual_clock
async def test_one(open_call):
    phone = open_call(graph, llm=ScriptedModel(["Sure."]))
    await phone.says("Hi.")
    phone.said.append("Hello?")
"""
    )
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["*5: said, and not remembered*"])


def test_calls_of_fixtures_that_fail_are_shown(run: Any) -> None:
    result = run(
        """
@pytest.fixture
async def fails():
    async with Call(graph, llm=ScriptedModel(["Sure."])) as phone:
        await phone.says("In the set-up.")
        assert phone.active_agent == "billing"
        yield phone

@pytest.fixture
async def ends_badly():
    async with Call(graph, llm=ScriptedModel(["Sure."])) as phone:
        yield phone
        assert phone.active_agent == "billing"

@pytest.mark.virtual_clock
async def test_one(fails):
    pass

@pytest.mark.virtual_clock
async def test_two(ends_badly):
    await ends_badly.says("In the test.")
"""
    )
    result.assert_outcomes(passed=1, errors=2)
    result.stdout.fnmatch_lines(["*at setup of test_one*", "*graph_voice calls*", "*caller says: In the set-up."])
    result.stdout.fnmatch_lines(["*at teardown of test_two*", "*graph_voice calls*", "*caller says: In the test."])


def test_all_calls_of_the_fixture_end_whatever_one_of_them_raises(run: Any) -> None:
    result = run(
        """
opened = []

@pytest.mark.virtual_clock
async def test_one(open_call):
    for _ in range(2):
        opened.append(open_call(graph, llm=ScriptedModel(["Sure."])))
        await opened[-1].says("Hi.")
    opened[0].said.append("Hello?")

def test_both_have_ended():
    assert [phone.conversation.closed for phone in opened] == [True, True]
"""
    )
    result.assert_outcomes(passed=2, errors=1)


def test_a_failed_test_has_one_reason(run: Any) -> None:
    result = run(
        """
@pytest.mark.virtual_clock
async def test_one(open_call):
    phone = open_call(graph, llm=ScriptedModel(["Sure."]))
    await phone.says("Hi.")
    phone.during_tool("book").says("Wait.")
    assert False
"""
    )
    result.assert_outcomes(failed=1)


def test_a_test_that_langsmith_tracks_passes_offline(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LANGSMITH_TEST_TRACKING", "false")
    result = run(
        """
from langsmith import testing

told = {}
for name in ("log_inputs", "log_outputs"):
    def log(what, real=getattr(testing, name), name=name):
        told[name] = what
        real(what)
    setattr(testing, name, log)

@pytest.mark.langsmith
@pytest.mark.virtual_clock
async def test_tracked():
    async with Call(graph, llm=ScriptedModel(["Sure."])) as phone:
        await phone.says("Hi.")
    assert told["log_inputs"] == {"said": ["Hi."]}
    assert told["log_outputs"]["heard"] == ["Sure."]
"""
    )
    result.assert_outcomes(passed=1)


def test_loading_the_plugin_is_cheap(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import sys

        def test_it():
            assert "graph_voice.pytest_plugin" in sys.modules
            assert "langgraph" not in sys.modules
            assert "graph_voice.testing" not in sys.modules
        """
    )
    pytester.runpytest_subprocess("-p", "no:cacheprovider", "-p", "no:langsmith_plugin").assert_outcomes(passed=1)


async def test_live_scenarios_are_played_with_a_real_model(
    pytester: pytest.Pytester, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import asyncio

    provider = OpenAI(["We are open from nine to five."])
    async with provider.serve():
        monkeypatch.setenv("OPENAI_BASE_URL", provider.url)
        monkeypatch.setenv("OPENAI_API_KEY", "any")
        test = """
@pytest.mark.live
@pytest.mark.virtual_clock
async def test_live():
    async with Call(graph, llm=ScriptedModel(["At nine."])) as phone:
        result = await phone.says("When do you open?")
        result.expect.contains_message()
        assert "nine to five" in result.heard

async def test_scripted():
    assert False
"""
        result = await asyncio.to_thread(run, test, "--graph-voice-live", "openai:gpt-4.1-mini", "-rs")
    result.assert_outcomes(passed=1, skipped=1)
    result.stdout.fnmatch_lines(["*not marked live*"])
    assert provider.requests


def _booking() -> Any:
    @function_tool
    async def book(ctx: RunContext[Any], day: str) -> str:
        """Book."""
        return "booked"

    return create_voice_graph([Agent("desk", instructions="D.", tools=[book])])


@pytest.mark.virtual_clock
async def test_a_trajectory_is_what_agentevals_takes() -> None:
    async with Call(_booking(), llm=ScriptedModel([call("book", {"day": "Friday"}), "Done."])) as phone:
        await phone.says("Friday.")
        matches = create_trajectory_match_evaluator(trajectory_match_mode="strict")
        expected = [
            {"role": "user", "content": "Friday."},
            {
                "role": "assistant",
                "content": "",
                "tool_calls": [{"function": {"name": "book", "arguments": '{"day": "Friday"}'}}],
            },
            {"role": "tool", "content": "booked", "tool_call_id": "call_1"},
            {"role": "assistant", "content": "Done."},
        ]
        assert matches(outputs=phone.trajectory(), reference_outputs=expected)["score"]
        expected[1]["tool_calls"] = [{"function": {"name": "book", "arguments": '{"day": "Monday"}'}}]
        assert not matches(outputs=phone.trajectory(), reference_outputs=expected)["score"]


@pytest.mark.virtual_clock
async def test_langsmith_is_told_of_a_call_in_a_test_that_it_tracks(monkeypatch: pytest.MonkeyPatch) -> None:
    from langsmith import testing

    logged: dict[str, Any] = {}
    monkeypatch.setattr(testing, "log_inputs", lambda inputs: logged.update(inputs=inputs))
    monkeypatch.setattr(testing, "log_outputs", lambda outputs: logged.update(outputs=outputs))
    async with Call(_booking(), llm=ScriptedModel(["Hello."])) as phone:
        await phone.says("Hi.")
    assert logged["inputs"] == {"said": ["Hi."]}
    assert logged["outputs"]["heard"] == ["Hello."]
    assert logged["outputs"]["active_agent"] == "desk"
    assert "caller says: Hi." in logged["outputs"]["transcript"]


class Payer(BaseModel):
    card: SecretStr | None = None
    name: str = ""


@pytest.mark.virtual_clock
async def test_langsmith_is_not_told_the_secrets_of_the_userdata(monkeypatch: pytest.MonkeyPatch) -> None:
    from langsmith import testing

    logged: dict[str, Any] = {}
    monkeypatch.setattr(testing, "log_inputs", logged.update)
    monkeypatch.setattr(testing, "log_outputs", logged.update)
    graph = create_voice_graph([Agent("desk", instructions="D.")], userdata=Payer)
    payer = Payer(card=SecretStr("4111222233334444"), name="Ada")
    async with Call(graph, llm=ScriptedModel(["Hello."]), userdata=payer) as phone:
        await phone.says("It is 4111222233334444.")
    assert logged["userdata"] == {"name": "Ada"}
    assert "caller says: It is " in logged["transcript"]
    assert "4111222233334444" not in str(logged)


@pytest.mark.virtual_clock
async def test_in_another_test_langsmith_is_told_nothing() -> None:
    import langsmith.testing  # noqa: F401 - as a test beside this one may

    async with Call(_booking(), llm=ScriptedModel(["Hello."])) as phone:
        await phone.says("Hi.")
    assert "langsmith.testing" in sys.modules


# ---- a fresh pytest, in an empty folder


def _code(page: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)


def test_the_first_test_of_the_page_passes_in_an_empty_folder(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(_code("docs/testing.md")[0])
    pytester.runpytest_subprocess("-p", "no:cacheprovider").assert_outcomes(passed=1)


def test_the_test_of_the_notebook_passes_in_an_empty_folder(pytester: pytest.Pytester) -> None:
    cells = json.loads((ROOT / "notebooks/3_testing_a_call.ipynb").read_text())["cells"]
    graph = next(c["source"] for c in cells if c["cell_type"] == "code")
    pytester.makepyfile(restaurant="".join(graph))
    (test,) = re.findall(r"```python\n(.*?)```", "".join(cells[-1]["source"]), re.DOTALL)
    pytester.makepyfile(test)
    pytester.runpytest_subprocess("-p", "no:cacheprovider").assert_outcomes(passed=1)


@pytest.mark.parametrize("mode", ["strict", "auto"])
def test_the_mark_alone_makes_a_test_run_on_the_virtual_clock(pytester: pytest.Pytester, mode: str) -> None:
    pytester.makeini(f"[pytest]\nasyncio_mode = {mode}\n")
    pytester.makepyfile(
        GRAPH
        + """
import asyncio

class TestMarked:
    pytestmark = pytest.mark.virtual_clock

    @pytest.mark.parametrize("seconds", [1, 3000])
    async def test_method(self, seconds):
        await asyncio.sleep(seconds)
        assert type(asyncio.get_running_loop()).__name__ == "VirtualClockLoop"

@pytest.mark.asyncio
@pytest.mark.virtual_clock
async def test_both():
    await asyncio.sleep(3000)

@pytest.mark.virtual_clock
async def test_fixture(open_call):
    phone = open_call(graph, llm=ScriptedModel(["Sure."]))
    assert (await phone.says("Hi.")).heard == "Sure."

@pytest.mark.virtual_clock
def test_without_a_loop():
    pass
"""
    )
    pytester.runpytest_subprocess("-p", "no:cacheprovider").assert_outcomes(passed=5)


def test_without_pytest_asyncio_the_mark_says_what_to_install(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(GRAPH + "@pytest.mark.virtual_clock\nasync def test_one():\n    pass\n")
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider", "-p", "no:asyncio")
    assert result.ret != 0
    assert "virtual_clock needs pytest-asyncio 1.5 or later" in result.stdout.str() + result.stderr.str()
