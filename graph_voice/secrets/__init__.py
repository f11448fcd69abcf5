"""Secrets, read by nobody but those whom they were given to: values, arguments of tools, numbers said aloud."""
