"""What is asked for: settings, their rules, and the pieces that they name."""
