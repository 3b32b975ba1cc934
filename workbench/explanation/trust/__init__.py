"""Whether a map, or what it explains, deserves trust: each module one kind of check, arrays in, numbers out."""
