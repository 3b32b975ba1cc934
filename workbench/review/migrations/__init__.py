"""Alembic's steps from an empty file to today's tables; shipped in the package, applied when a store is opened."""
