"""How is it started? main and one file a command.

Before anything else is imported the linear algebra library is told to keep to one thread: a prompt's features are far
too few to share, and its threads would only take the core from the event loop.
"""

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
