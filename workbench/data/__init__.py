"""Floor 1: from photographs to exams."""
