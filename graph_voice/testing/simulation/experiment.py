"""A report in LangSmith: the scenarios as a dataset, the calls as an experiment on it, the verdicts as feedback."""

import uuid
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from langsmith import Client
from langsmith.run_trees import RunTree
from langsmith.utils import LangSmithNotFoundError

from graph_voice.testing.simulation.results import Results, Run
from graph_voice.testing.simulation.scenario import Scenario

__all__ = ["send_experiment"]

_SCORES = {"pass": 1.0, "maybe": 0.5, "fail": 0.0}


def send_experiment(
    report: Results, scenarios: Sequence[Scenario], dataset: str, *, client: Client | None = None
) -> str:
    """Send a report to LangSmith. Returns the experiment's URL, or its name where the server gives no URL.

    A dataset of this name is made if there is none. Each scenario is one example of it, which keeps its id as long as
    the scenario keeps its name, so experiments can be compared there. Each call is one run with the call's messages;
    its feedback is `passed`, and each judge's verdict (pass 1, maybe 0.5, fail 0) with the reason.

    Args:
        report: what `simulate` returned.
        scenarios: what was played.
        dataset: the dataset's name.
        client: the LangSmith client. Default: the environment's (`LANGSMITH_API_KEY`).

    Raises what the client raises.
    """
    client = client or Client()
    found = _dataset(client, dataset)
    examples = _examples(client, found, scenarios)
    name = f"{dataset}-{datetime.now(UTC):%Y%m%d-%H%M%S}-{uuid.uuid4().hex[:6]}"
    facts = {"graph": report.graph, "front_end": report.front_end, "clock": report.clock, "seed": report.seed}
    models = {f"model_{side}": model for side, model in report.models.items() if model}
    project = client.create_project(
        name, reference_dataset_id=found, metadata={**facts, **models}, num_examples=len(examples)
    )
    for run in report.runs:
        _send(client, run, name, project.id, examples.get(run.scenario))
    client.flush()
    try:
        return str(project.url)
    except Exception:  # a server of one's own may have no pages
        return name


def _dataset(client: Client, name: str) -> uuid.UUID:
    try:
        found = client.read_dataset(dataset_name=name)
    except LangSmithNotFoundError:
        found = client.create_dataset(name, description="Simulated callers of a graph_voice graph.")
    known: uuid.UUID = found.id
    return known


def _examples(client: Client, dataset: uuid.UUID, scenarios: Sequence[Scenario]) -> dict[str, uuid.UUID]:
    """Scenario -> the id of its example, which is made or brought up to date."""
    known = {example.id: example for example in client.list_examples(dataset_id=dataset)}
    made = {}
    for scenario in scenarios:
        example_id = made[scenario.name] = uuid.uuid5(dataset, scenario.name)
        inputs = {"scenario": scenario.name, "instructions": scenario.instructions, "userdata": scenario.userdata}
        outputs = {"agent_expectations": scenario.agent_expectations}
        metadata = {**scenario.tags, **({"scenario_id": scenario.id} if scenario.id else {})}
        if (old := known.get(example_id)) is None:
            client.create_example(
                inputs, dataset_id=dataset, reference_outputs=outputs, metadata=metadata, example_id=example_id
            )
        elif (old.inputs, old.outputs) != (inputs, outputs):
            client.update_example(example_id, inputs=inputs, outputs=outputs, metadata=metadata, dataset_id=dataset)
    return made


def _send(client: Client, run: Run, project: str, project_id: uuid.UUID, example: uuid.UUID | None) -> None:
    ended = datetime.now(UTC)
    outputs: dict[str, Any] = {
        "messages": run.trajectory,
        "status": run.status,
        "ended": run.ended,
        "problems": run.problems,
        "userdata": run.userdata,
        "active_agent": run.active_agent,
    }
    tree = RunTree(
        name=run.name,
        run_type="chain",
        inputs={"scenario": run.scenario, "number": run.number},
        outputs=outputs,
        error=run.error or None,
        project_name=project,
        reference_example_id=example,
        start_time=ended - timedelta(seconds=run.seconds),
        end_time=ended,
        extra={"metadata": {"tokens": {k: u.model_dump() for k, u in run.tokens.items()}, "turns": run.turns}},
        ls_client=client,
    )
    tree.post()
    given = [("passed", float(run.passed), "; ".join(run.reasons))]
    given += [(v.judge, _SCORES[v.verdict], v.reason) for v in run.verdicts if v.verdict in _SCORES]
    for key, score, comment in given:
        client.create_feedback(
            run_id=tree.id,
            trace_id=tree.id,
            key=key,
            score=score,
            comment=comment or None,
            session_id=project_id,
            start_time=tree.start_time,
        )
