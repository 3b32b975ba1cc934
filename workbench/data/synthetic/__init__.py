"""The synthetic cohort: seeded photographs of both eyes, with their lesions, their faults and their grades."""
