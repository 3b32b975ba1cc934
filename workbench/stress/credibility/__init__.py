"""What an attack's figure is worth: the checks that need the model, on a few exams (`schema.credibility`)."""
