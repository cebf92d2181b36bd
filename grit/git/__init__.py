"""The truth: repositories, refs and the log; the only room that knows dulwich and git."""
