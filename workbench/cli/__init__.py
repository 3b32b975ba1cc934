"""Floor 5: the program `workbench`."""
