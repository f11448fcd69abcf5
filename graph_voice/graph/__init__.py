"""From agents to a LangGraph `StateGraph`, and its nodes."""
