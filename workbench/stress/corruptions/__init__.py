"""What spoils a photograph or mixes up an exam, in severities from 0 to 5, each tied to a physical quantity."""
