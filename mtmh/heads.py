"""The two heads, by name. Apart from the model, so that what only reads their
vectors need not load torch (1.5 s).
"""

HEADS = ("engagement", "relevance")
# Named sources of candidates, with an index and a quota each; a channel's number is its index here.
CHANNELS = HEADS
