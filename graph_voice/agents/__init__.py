"""What a user writes: agents, handoffs, tools, and what a tool can see and do."""
