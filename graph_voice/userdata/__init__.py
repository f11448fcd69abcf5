"""The caller's typed facts: a channel of the graph, and the working copy that tools share."""
