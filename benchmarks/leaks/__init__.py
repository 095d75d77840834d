"""How well the leak detector tells leaks from everything that looks like one, beside the rules people use today."""
