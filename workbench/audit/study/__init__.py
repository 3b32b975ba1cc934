"""Makers of draws × poolings × scores, compared on the same exams."""
