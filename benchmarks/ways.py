"""The contestants."""

from enum import Enum, StrEnum

__all__ = ["Store", "Way"]


class Store(Enum):
    """Where a running conversation is stored."""

    NONE = "none"
    MEMORY = "InMemorySaver"
    SQLITE = "SQLite"
    POSTGRES = "Postgres"


class Way(StrEnum):
    """How the same agent is run. The value is its name on the page."""

    PLAIN = "LiveKit agent"
    ADAPTER = "LLMAdapter, no saver"
    ADAPTER_MEMORY = "LLMAdapter, InMemorySaver"
    ADAPTER_SQLITE = "LLMAdapter, SQLite"
    OURS = "graph_voice, memory"
    OURS_SQLITE = "graph_voice, SQLite"
    OURS_POSTGRES = "graph_voice, Postgres"

    @property
    def store(self) -> Store:
        name = self.value.partition(", ")[2]
        return next((store for store in Store if store.value == name), Store.NONE)

    @property
    def is_library(self) -> bool:
        return self.value.startswith("graph_voice")

    @property
    def is_adapter(self) -> bool:
        return self.value.startswith("LLMAdapter")
