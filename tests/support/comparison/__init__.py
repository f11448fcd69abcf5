"""One application written three ways, one script run on each: what docs/comparison.md is made from."""
