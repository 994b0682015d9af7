"""From messages to what a model reads: chat templates, and how models write calls."""
