"""The feed (every post that the viewer may see) and the newsfeed (posts of the users they follow, their own, and those
of the stores that they are a member of or work for).

query.py  how the rows of a feed are found
reads.py  the two feeds as declared reads
"""
