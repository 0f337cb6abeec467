"""The console's pages of users, their subscriptions, what changed about them, and what they ask about their data."""
