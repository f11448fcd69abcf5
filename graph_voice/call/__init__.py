"""One call: its turns, what it remembers, its durable copy, its traces."""
