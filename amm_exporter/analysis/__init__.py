"""Pure functions and objects over values: no clock, no I/O, no threads."""
