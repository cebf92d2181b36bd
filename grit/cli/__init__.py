"""The command line: parse, call a service, print."""

import gc

# Starting makes many objects and no garbage: looking for some would cost a twentieth of a list.
# It stands here because importing click comes first.
gc.set_threshold(50_000)
