"""What is found out about credentials beside sending: whether the provider takes them, and until when."""
