"""Who may change what a running router has learned, and when is the change safe?

`desk` does on the running controller what an operator asks for, and writes a checkpoint before it says that it is done.
"""
