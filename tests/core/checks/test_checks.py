"""What `check_graph` finds in a graph, and what it leaves alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, MessagesState, StateGraph
from pydantic import BaseModel

from graph_voice import Agent, Handoff, RunContext, create_voice_graph, function_tool, history
from graph_voice.checks import Finding, Severity, check_file, check_graph
from graph_voice.errors import LoadError
from graph_voice.testing import ScriptedModel

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(autouse=True)
def _no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "GRAPH_VOICE_LLM"):
        monkeypatch.delenv(name, raising=False)


@function_tool
async def look_up(ctx: RunContext[Any]) -> str:
    """Look up."""
    return "blue"


@function_tool
async def weather() -> str:
    """Tell the weather."""
    return "sunny"


class Answer(BaseModel):
    text: str


def checked(*agents: Any, **options: Any) -> list[Finding]:
    """The findings about a graph of these agents, with a model."""
    options.setdefault("llm", ScriptedModel([]))
    return check_graph(create_voice_graph(agents, **options))


def desk(instructions: Any = "Help.", *, handoffs: Sequence[Any] = (), **options: Any) -> Agent:
    return Agent("desk", instructions=instructions, handoffs=handoffs, **options)


def billing(**options: Any) -> Agent:
    options.setdefault("handoffs", [Handoff("desk", "Back.")])
    return Agent("billing", instructions="Bill.", **options)


TO_BILLING = Handoff("billing", "Transfer the caller for bills.")


def only(findings: list[Finding]) -> Finding:
    assert len(findings) == 1, [str(f) for f in findings]
    return findings[0]


def test_nothing_is_found_in_a_graph_in_which_nothing_is_wrong() -> None:
    assert checked(desk("Help, and transfer to billing.", handoffs=[TO_BILLING], tools=[look_up]), billing()) == []


GRAPHS = [*(ROOT / "graphs").glob("*.py"), *(made.parent for made in (ROOT / "graphs").glob("*/__init__.py"))]


@pytest.mark.parametrize("file", sorted(f for f in GRAPHS if f.stem != "studio"), ids=lambda file: file.stem)
def test_the_graphs_of_this_repository_have_no_errors_and_lack_only_a_model(file: Path) -> None:
    serious = [f for f in check_file(str(file)) if f.severity is not Severity.INFO]
    assert [f.severity for f in serious] == [Severity.WARNING]
    assert "no model" in serious[0].problem


# ---- the graph as a whole


def test_a_graph_that_does_not_compile_is_an_error() -> None:
    found = only(checked(desk(handoffs=[Handoff("biling", "Bills.")]), billing()))
    assert found.severity is Severity.ERROR
    assert 'did you mean "billing"?' in found.problem


def test_a_checkpointer_is_what_studio_refuses() -> None:
    graph = create_voice_graph([desk()], llm=ScriptedModel([]))
    assert check_graph(graph.compile()) == []
    found = only(check_graph(graph.compile(checkpointer=InMemorySaver())))
    assert found.severity is Severity.WARNING
    assert "InMemorySaver" in found.problem
    assert "graph = create_voice_graph(...)" in found.fix


def test_agents_without_a_model_are_one_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    def found() -> list[Finding]:
        return checked(desk(handoffs=[TO_BILLING]), billing(), llm=None)

    assert 'agents "desk", "billing": no model' in only(found()).problem
    assert only(found()).severity is Severity.WARNING
    one = checked(desk(handoffs=[TO_BILLING], llm=ScriptedModel([])), billing(), llm=None)
    assert only(one).agent == "billing"
    monkeypatch.setenv("GRAPH_VOICE_LLM", "openai:gpt-4.1")
    assert "the model of this graph" in only(found()).problem
    monkeypatch.setenv("OPENAI_API_KEY", "key")
    assert found() == []


def test_a_named_model_that_can_not_be_used_here_is_one_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    short = history.when(max_items=9, then=history.summarize(model="openai:gpt-short"))
    carried = history.summarize(model="openai:gpt-carried")
    graph = create_voice_graph(
        [
            desk(handoffs=[Handoff("billing", "Bills.", history=carried)], llm="openai:gpt-desk", context=short),
            billing(fallback="openai:gpt-reserve"),
        ],
        llm="openai:gpt-graph",
        fallback="openai:gpt-graph",
    )
    found = check_graph(graph)
    assert {f.severity for f in found} == {Severity.WARNING}
    problems = [f.problem for f in found]
    for agents, model in {
        'agent "desk"': "openai:gpt-desk",
        'agents "desk", "billing"': "openai:gpt-graph",
        'agent "billing"': "openai:gpt-reserve",
    }.items():
        (told,) = (p for p in problems if model in p)
        assert told.startswith(agents + ":")
        assert "OPENAI_API_KEY" in told
    assert any("gpt-short" in p for p in problems)
    assert any("gpt-carried" in p for p in problems)
    monkeypatch.setenv("OPENAI_API_KEY", "key")
    assert check_graph(graph) == []


@pytest.mark.parametrize(
    "bind",
    [
        lambda model: model.with_structured_output(Answer),
        lambda model: model.with_structured_output(Answer, include_raw=True),
        lambda model: model.bind(response_format={"type": "json_object"}),
    ],
    ids=["with_structured_output", "include_raw", "response_format"],
)
def test_a_model_with_structured_output_is_no_speaker(bind: Any) -> None:
    found = only(checked(desk(llm=bind(ScriptedModel([])))))
    assert (found.severity, found.agent) == (Severity.ERROR, "desk")
    assert "structured output" in found.problem
    assert only(checked(desk(fallback=bind(ScriptedModel([]))))).agent == "desk"


def test_a_graph_in_which_nobody_speaks_or_nothing_is_said() -> None:
    silent = StateGraph(MessagesState).add_node("a", lambda state: {}).add_edge(START, "a").add_edge("a", END)
    assert "Nobody speaks" in only(check_graph(silent.compile())).problem

    plain: Any = StateGraph(dict).add_node("a", lambda state: {}).add_edge(START, "a").add_edge("a", END)
    found = only(check_graph(plain))
    assert found.severity is Severity.ERROR
    assert "no `messages` channel" in found.problem


def test_a_node_that_may_act_delays_each_turn() -> None:
    model = ScriptedModel([])
    clerk = create_agent(model, tools=[], name="clerk")
    found = only(checked(desk(handoffs=[Handoff("clerk", "Ask the clerk.")]), clerk))
    assert found.severity is Severity.INFO
    assert "may act: clerk" in found.problem


def test_userdata_that_must_be_given_is_told() -> None:
    @dataclass
    class Caller:
        name: str

    found = only(checked(desk(lambda caller: f"Help {caller.name}."), userdata=Caller))
    assert (found.severity, "Caller" in found.problem) == (Severity.INFO, True)


# ---- ways


@pytest.mark.filterwarnings("ignore:agent")
def test_an_agent_that_nobody_hands_off_to_can_t_be_reached() -> None:
    found = only(checked(desk(), Agent("attic", instructions="Wait.")))
    assert (found.severity, found.agent) == (Severity.WARNING, "attic")
    assert "can't be reached" in found.problem
    assert 'Handoff("attic"' in found.fix


@pytest.mark.filterwarnings("ignore:agent")
def test_an_agent_that_nobody_reaches_is_not_one_to_go_back_to() -> None:
    attic = Agent("attic", instructions="Wait.", handoffs=[Handoff("desk", "Down.")])
    assert only(checked(desk(), attic)).agent == "attic"


@pytest.mark.filterwarnings("ignore:agent")
def test_a_node_of_the_user_s_own_may_lead_to_an_agent_that_nobody_hands_off_to() -> None:
    graph = create_voice_graph([desk(), Agent("attic", instructions="Wait.")], llm=ScriptedModel([]))
    graph.add_node("stairs", lambda state: {}, metadata={"speculative": True}).add_edge("stairs", END)
    assert check_graph(graph) == []


def test_an_agent_without_a_way_back_may_be_meant_so() -> None:
    found = only(checked(desk(handoffs=[TO_BILLING]), billing(handoffs=[])))
    assert (found.severity, found.agent) == (Severity.INFO, "billing")
    assert 'no way back to "desk"' in found.problem


def test_a_way_back_may_lead_through_others() -> None:
    ring = [
        desk(handoffs=[TO_BILLING]),
        billing(handoffs=[Handoff("complaints", "Complaints.")]),
        Agent("complaints", instructions="Listen.", handoffs=[Handoff("desk", "Back.")]),
    ]
    assert checked(*ring) == []


def test_a_transfer_tool_that_says_nothing_of_itself() -> None:
    found = only(checked(desk(handoffs=[Handoff("billing")]), billing()))
    assert (found.severity, found.agent, found.tool) == (Severity.WARNING, "desk", "transfer_to_billing")
    assert 'Handoff("billing", "Transfer' in found.fix


def test_a_target_that_no_tool_can_take() -> None:
    found = checked(desk(handoffs=[Handoff("billing", tool=False)]), billing())
    told = next(f for f in found if f.agent == "desk")
    assert told.severity is Severity.WARNING
    assert "no tool that could make it" in told.problem
    assert 'Handoff("billing"' in told.fix


def test_a_target_that_no_tool_names_is_drawn_without_a_name() -> None:
    found = only(checked(desk(handoffs=[Handoff("billing", tool=False)], tools=[look_up]), billing()))
    assert found.severity is Severity.INFO
    assert '@function_tool(handoffs=["billing"])' in found.fix


# ---- prompts


@pytest.mark.parametrize(
    ("prompt", "problem", "fix"),
    [
        ("Use transfer_to_sales.", "told about transfer_to_sales", 'There is no agent "sales"'),
        ("transfer_to_biling for bills.", "told about transfer_to_biling", "did you mean billing?"),
        ("transfer_to_billing for bills.", "told about transfer_to_billing", 'handoffs=[Handoff("billing", "When'),
        ("For bills, transfer the caller to billing.", 'told to transfer to "billing"', 'handoffs=[Handoff("billing"'),
        ("Transfer to billing with transfer_to_billing.", "told about transfer_to_billing", "Declare it"),
        ("Hand the caller over to the billing agent.", 'told to transfer to "billing", but has no handoff', "Handoff("),
        ("Transfer to the refund agent.", 'to "refund", but there is no such agent', "The agents are desk, billing"),
        (
            "Use weather_report to answer.",
            "the tool weather_report, which it does not have; it does not exist",
            "look_up",
        ),
        ("Call lookup_it(id).", "lookup_it", "Its tools are look_up"),
        (
            "Then `look_up_bill` it.",
            'look_up_bill, which it does not have; agent "billing" has it',
            "tools=[look_up_bill]",
        ),
    ],
)
def test_what_a_prompt_names_and_the_agent_does_not_have(prompt: str, problem: str, fix: str) -> None:
    @function_tool
    async def look_up_bill() -> str:
        """Look up a bill."""
        return "1 dollar"

    for agent in (desk(prompt, tools=[look_up]), desk(on_enter=prompt, tools=[look_up])):
        others = billing(tools=[look_up_bill], handoffs=[Handoff("desk", "Back.")])
        both = [agent, others]
        # Somebody has to reach billing without the desk's knowing it.
        both.append(Agent("switch", instructions="S.", handoffs=[TO_BILLING, Handoff("desk", "Desk.")]))
        found = only([f for f in checked(*both, start="switch") if f.severity is not Severity.INFO])
        assert (found.severity, found.agent) == (Severity.WARNING, "desk")
        assert problem in found.problem
        assert fix in found.fix


@pytest.mark.parametrize(
    "prompt",
    [
        "Transfer the caller to billing with transfer_to_billing. Use look_up first.",
        "Transfer the caller to the right agent, to another agent or to a human agent.",
        "Don't transfer the caller to attic. Never hand over to the sales agent.",
        "Ask for the order_id and weather of the day.",
        "Talk to the billing agent of the other company.",
        "You are the desk agent.",
    ],
)
def test_prompts_that_name_nothing_wrong(prompt: str) -> None:
    attic = Agent("attic", instructions="Wait.", tools=[weather], handoffs=[Handoff("desk", "Back.")])
    bills = billing(handoffs=[Handoff("desk", "Back."), Handoff("attic", "Storage.")])
    assert checked(desk(prompt, handoffs=[TO_BILLING], tools=[look_up]), bills, attic) == []


def test_a_renamed_transfer_is_told_by_its_name() -> None:
    agent = desk("Use transfer_to_billing.", handoffs=[Handoff("billing", "Bills.", name="go_to_billing")])
    assert "is named go_to_billing" in only(checked(agent, billing())).fix


def test_a_prompt_that_is_a_function_is_read_as_a_call_begins() -> None:
    class Caller(BaseModel):
        name: str | None = None

    found = only(checked(desk(lambda caller: f"{caller.name}: use transfer_to_sales."), userdata=Caller))
    assert found.tool == "transfer_to_sales"
    failing = only(checked(desk(lambda caller: caller.name.upper()), userdata=Caller))
    assert "fails on the userdata of a new call: AttributeError" in failing.problem
    later = billing(on_enter=lambda caller: caller.name.upper())
    assert checked(desk(handoffs=[TO_BILLING]), later, userdata=Caller) == []


# ---- tools of a file


def module(**values: Any) -> ModuleType:
    made = ModuleType(__name__)
    vars(made).update(values)
    return made


def test_a_tool_that_no_agent_lists() -> None:
    graph = create_voice_graph([desk(tools=[look_up])], llm=ScriptedModel([]))
    assert check_graph(graph, module=module(look_up=look_up)) == []
    found = only(check_graph(graph, module=module(look_up=look_up, weather=weather)))
    assert (found.severity, found.tool) == (Severity.WARNING, "weather")
    assert "tools=[weather]" in found.fix


def test_tools_of_other_agents_in_the_file_are_used() -> None:
    class Forecaster(Agent):
        instructions = "Forecast."
        tools = (weather,)

    graph = create_voice_graph([desk()], llm=ScriptedModel([]))
    assert check_graph(graph, module=module(weather=weather, Forecaster=Forecaster)) == []
    other = Agent("other", instructions="Other.", tools=[weather])
    assert check_graph(graph, module=module(weather=weather, other=other)) == []


def test_tools_that_were_imported_and_tools_of_an_inner_graph_are_nobody_s_fault() -> None:
    @tool
    def inner(text: str) -> str:
        """Work."""
        return text

    elsewhere = function_tool(type(weather)(weather.__code__, {"__name__": "elsewhere"}, "elsewhere"))
    clerk = create_agent(ScriptedModel([]), tools=[inner], name="clerk")
    graph = create_voice_graph([desk(handoffs=[Handoff("clerk", "Ask.")]), clerk], llm=ScriptedModel([]))
    found = check_graph(graph, module=module(inner=inner, elsewhere=elsewhere))
    assert [f for f in found if f.tool is not None] == []
    assert only([f for f in check_graph(desk_graph(), module=module(inner=inner)) if f.tool]).tool == "inner"


def desk_graph() -> Any:
    return create_voice_graph([desk()], llm=ScriptedModel([]))


# ---- files


def write(folder: Path, text: str) -> str:
    (folder / "agent.py").write_text(
        "import warnings\nfrom graph_voice import Agent, Handoff, create_voice_graph\n"
        "from graph_voice.testing import ScriptedModel\n" + text
    )
    return str(folder / "agent.py")


def test_what_is_refused_while_a_file_is_imported_is_a_finding_with_its_line(tmp_path: Path) -> None:
    spec = write(tmp_path, "\ngraph = create_voice_graph([Agent('a b', instructions='A')])\n")
    found = only(check_file(spec))
    assert found.severity is Severity.ERROR
    assert "Agent('a b')" in found.problem
    assert found.where == f"{spec}:5"


def test_what_is_refused_in_a_factory_is_a_finding_too(tmp_path: Path) -> None:
    spec = write(tmp_path, "def graph():\n    return create_voice_graph([])\n")
    found = only(check_file(spec))
    assert "has no agents" in found.problem
    assert found.where == f"{spec}:5"


def test_a_builder_s_warning_is_told_once_and_other_warnings_of_the_file_as_well(tmp_path: Path) -> None:
    spec = write(
        tmp_path,
        "warnings.warn('mind the gap')\nwarnings.warn('old', DeprecationWarning)\n"
        "agents = [Agent('a', instructions='A'), Agent('b', instructions='B')]\n"
        "graph = create_voice_graph(agents, llm=ScriptedModel([]))\n",
    )
    problems = [f.problem for f in check_file(spec)]
    assert len(problems) == 2
    assert 'agent "b" can\'t be reached' in problems[0]
    assert problems[1] == "mind the gap"


def test_a_file_that_fails_by_itself_or_is_not_there_is_no_finding(tmp_path: Path) -> None:
    with pytest.raises(LoadError, match="division by zero"):
        check_file(write(tmp_path, "1 / 0\n"))
    with pytest.raises(LoadError, match="there is no file"):
        check_file(str(tmp_path / "nothing.py"))


def test_the_worst_comes_first_and_each_is_one_line() -> None:
    found = checked(
        desk("Use transfer_to_sales.", handoffs=[TO_BILLING], llm=ScriptedModel([]).with_structured_output(Answer)),
        billing(handoffs=[]),
    )
    assert [f.severity for f in found] == [Severity.ERROR, Severity.WARNING, Severity.INFO]
    assert str(found[1]).startswith('warning: agent "desk" is told about transfer_to_sales')
    assert "\n" not in str(found[1])
