"""Training: one file per stage, each resumable; the data they learn from; and the score of the result."""
