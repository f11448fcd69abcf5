"""Secrets, which only the code that was given them can read: values, arguments of tools, numbers said aloud."""
