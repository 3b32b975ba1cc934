"""From the layouts in which photographs are found to one manifest."""
