"""What acts: the governor loop and, around it, plans, guards and actions."""
