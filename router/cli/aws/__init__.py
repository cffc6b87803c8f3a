"""How do commands ask AWS? `account` has the options that say which, and tells its errors."""
