"""Use cases: the only room that joins the log and the view."""
