"""`router evaluate --online`: what the learning router does with outcomes as a stream."""
