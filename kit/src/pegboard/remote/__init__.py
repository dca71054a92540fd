"""The kit's ports to the hub: the bundle it decides with, the spool its records leave by."""
