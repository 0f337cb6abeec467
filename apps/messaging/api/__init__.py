"""The messaging routes: templates, messages, receipts."""
