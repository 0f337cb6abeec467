"""What operators of the platform turn off without a deploy, and how those who work ask about it."""
