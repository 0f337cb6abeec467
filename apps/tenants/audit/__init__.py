"""Who did what, when, from where: what people do at the console, beside the history of what they changed."""
