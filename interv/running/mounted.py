"""Whether nnsight was there before this package, and so whether its mark on every object is somebody's own.

nnsight gives `object` an attribute, `save`. Other libraries stumble over it: anyio, below most servers and clients, can
no longer be imported. Who imported nnsight knows that and may use it; who imported this package does not.
"""

import sys

ASKED_FOR = "nnsight" in sys.modules
