"""Memory budgets, exact peaks and leak gates for pytest."""
