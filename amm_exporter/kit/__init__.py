"""Building blocks that report their own statistics."""
