"""What does a control loop say of what it did? Events that are told by one loop alone, a file for each."""
