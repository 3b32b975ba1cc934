"""Floor 3: from a model and exams to rows."""
