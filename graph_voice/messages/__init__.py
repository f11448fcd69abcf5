"""What every provider accepts: pure functions over LangChain messages."""
