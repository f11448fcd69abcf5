"""A graph by its path, and the model that it is run with."""
