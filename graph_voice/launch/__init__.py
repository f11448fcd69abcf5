"""Loading a graph by its path, and choosing the model that it runs with."""
