"""The console's pages of templates and messages. `apps/messaging/admin.py` is where Django finds them."""
