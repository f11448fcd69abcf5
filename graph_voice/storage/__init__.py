"""LangGraph checkpointers that know nothing of voice: one that writes behind, and one for a single run."""
