"""A LiveKit worker that answers each job with a voice graph."""
