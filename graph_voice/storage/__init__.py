"""LangGraph checkpointers, independent of voice: one that writes in the background, and one for a single run."""
