"""Output for people: a run's files, tables, figures and page."""
