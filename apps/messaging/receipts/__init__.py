"""What comes back: receipts of SDKs, and one parser for each provider's webhooks."""
