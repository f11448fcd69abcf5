"""The live page: `graph-voice serve`, a browser in which you talk to a graph and see what it does."""
