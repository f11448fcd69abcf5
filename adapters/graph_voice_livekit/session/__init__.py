"""One LiveKit session that speaks one conversation: who drains which turn, and what became of it."""
