"""Our own attacks: parameter-free, per exam, on the exams that still hold."""
