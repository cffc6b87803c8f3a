"""How is it spelled in bytes? Pure codecs between bytes and the domain; no I/O."""
