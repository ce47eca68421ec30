"""What the guest says of itself, by its agent."""
