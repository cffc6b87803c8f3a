"""What must the shell provide? The seams between the core and the world, as protocols."""
