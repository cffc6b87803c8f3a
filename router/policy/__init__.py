"""What did the operator ask? Text in, frozen Policy out; no file I/O."""
