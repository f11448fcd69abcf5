"""The steps of LangGraph runs, as a callback is told them."""

from typing import Any

from langchain_core.callbacks import AsyncCallbackHandler


class Steps(AsyncCallbackHandler):
    """Notes the nodes that run, in order: `config={"callbacks": [steps]}`."""

    def __init__(self) -> None:
        self.nodes: list[str] = []

    async def on_chain_start(self, serialized: Any, inputs: Any, **options: Any) -> None:
        name, node = options.get("name"), (options.get("metadata") or {}).get("langgraph_node")
        if node is not None and name == node and not node.startswith("__"):
            self.nodes.append(node)
