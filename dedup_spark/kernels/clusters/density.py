"""How crowded the place is where an image lies, and how far a pair stands out of it.

A cosine of 0.7 is a copy in an empty place and nothing special among two hundred pictures in one screenshot frame.
The normalised similarity is the cosine less the mean crowding of its two images; crowding is the cosine of an
image's 16th neighbour. That rank is the one that told most in the band where the cosine alone cannot decide: at
cosine 0.3 to 0.4 it ranks a true pair above a false one with probability 0.97 (edits of 250 photos, distilled SSCD,
224 px), against 0.94 at rank 32 and 0.91 at rank 64. It fails where more than 16 copies of one picture lie together:
so it orders the pairs for verification and never decides against a pair by itself.
"""

CROWDING_RANK = 16
