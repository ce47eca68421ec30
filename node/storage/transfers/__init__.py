"""Move images in and out: tickets, and the course of each transfer."""
