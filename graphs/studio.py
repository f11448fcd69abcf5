"""The example graphs as LangGraph Studio serves them (`langgraph.json`), each with a model that needs no key.

Your own graph needs no such file if it has a model: write `"my_agent": "./my_agent.py:graph"`.
"""

from pathlib import Path

from graph_voice.studio import studio_graph

HERE = Path(__file__).parent

customer_service = studio_graph(HERE / "customer_service.py")
intake = studio_graph(HERE / "intake.py")
intake_form = studio_graph(HERE / "intake_form.py")
specialist = studio_graph(HERE / "specialist.py")
with_subgraph = studio_graph(HERE / "with_subgraph.py")
drive_thru = studio_graph(HERE / "drive_thru")
restaurant = studio_graph(HERE / "restaurant")
medical_triage = studio_graph(HERE / "medical_triage")
front_desk = studio_graph(HERE / "front_desk")
